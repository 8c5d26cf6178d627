// A worker in a page of Chromium; reads and writes what worker.mjs does.

import { openPage } from './browser.mjs';
import { finish, readInput, writeLine } from './lines.mjs';

const task = await readInput();
const { browser, page } = await openPage();
await page.exposeFunction('say', writeLine);
await page.evaluate((given) => window.takePart(given), task);
await browser.close();
finish();
