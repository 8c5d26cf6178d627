// syft.js and tfjs-core from npm, and what a browser has and Node lacks.

import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

globalThis.WebSocket ??= require('ws');
globalThis.name ??= ''; // the speed test reads window.name
Object.defineProperty(globalThis, 'XMLHttpRequest', {
  // for the speed test; jsdom takes a second to load, and most workers need it not
  get: () => {
    const { JSDOM, VirtualConsole } = require('jsdom');
    const { window } = new JSDOM('', { url: 'http://localhost/', virtualConsole: new VirtualConsole() });
    Object.defineProperty(globalThis, 'XMLHttpRequest', { value: window.XMLHttpRequest });
    return window.XMLHttpRequest;
  },
  configurable: true,
});

console.log = console.warn = console.error; // standard output is for results

export const tf = require('@tensorflow/tfjs-core');
export const syft = require('@openmined/syft.js');
