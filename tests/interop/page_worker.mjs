// A worker in a page of Chromium; reads and writes what worker.mjs does.

import { fileURLToPath } from 'node:url';
import { launch, serve } from './browser.mjs';
import { finish, readInput, writeLine } from './lines.mjs';

const task = await readInput();
const address = await serve(fileURLToPath(new URL('.', import.meta.url)));
const browser = await launch();
const page = await browser.newPage();
page.on('console', (message) => console.error(message.text()));
page.on('pageerror', (error) => writeLine({ event: 'error', message: String(error) }));
await page.exposeFunction('say', writeLine);
await page.goto(`${address}/page.html`);
await page.waitForFunction(() => window.takePart);
await page.evaluate((given) => window.takePart(given), task);
await browser.close();
finish();
