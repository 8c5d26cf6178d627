// syft.js and tfjs-core from npm, and what a browser has and Node lacks.

import Module, { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

const CORE = '@tensorflow/tfjs-core';
const resolve = Module._resolveFilename; // another version of it is installed under another name
Module._resolveFilename = (request, ...rest) =>
  resolve(request === CORE ? (process.env.TFJS_CORE ?? CORE) : request, ...rest);

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

export const tf = require(CORE);
export const syft = require('@openmined/syft.js');
