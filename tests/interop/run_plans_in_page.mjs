// Runs Plans in a page of Chromium, where tfjs computes with WebGL; reads and writes what run_plans.mjs does.

import { openPage } from './browser.mjs';
import { finish, readInput, writeLine } from './lines.mjs';

const tasks = await readInput();
const { browser, page } = await openPage();
for (const task of tasks) writeLine(await page.evaluate((given) => window.runPlan(given), task));
await browser.close();
finish();
