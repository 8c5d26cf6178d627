// Uses the page of examples/browser as a person would, and writes down what it shows.
//
// Reads {page, url, picture}: the page's address, the grid's, and where a picture of the page is put.

import { launch } from './browser.mjs';
import { finish, readInput, writeLine } from './lines.mjs';

const { page: address, url, picture } = await readInput();
const browser = await launch();
const page = await browser.newPage();
page.on('console', (message) => console.error(message.text()));
page.on('pageerror', (error) => writeLine({ when: 'error', message: String(error) }));

const text = (id) => page.locator(`#${id}`).textContent();

async function look(when) {
  const [cycles, batches] = await Promise.all([text('cycles'), text('batches')]);
  const [accuracy, status] = [await text('accuracy'), await page.locator('#status').evaluate((e) => e.value)];
  const wrong = await page.locator('#digits .wrong').count();
  const button = await text('button');
  writeLine({ when, cycles: +cycles, batches: +batches, accuracy: Number.parseFloat(accuracy), status, wrong, button });
}

const reach = (cycles) =>
  page.waitForFunction((n) => +document.getElementById('cycles').textContent >= n, cycles, { timeout: 60_000 });

await page.goto(address);
await page.waitForFunction(() => document.querySelectorAll('#digits figure').length > 0);
await page.fill('#url', url);
await page.click('#button');
await reach(1);
await look('started');
await page.click('#button');
await page.waitForTimeout(300); // the batch that was under way ends
await look('stopped');
await page.waitForTimeout(500);
await look('still stopped');
await page.click('#button');
await reach(5);
await look('resumed');
await page.screenshot({ path: picture, fullPage: true });
await browser.close();
finish();
