// Uses a grid's dashboard as a person would, and writes down what it shows.
//
// Reads {grid, token, name, version, watching, pictures}: the grid's address, a token for everything, a model that
// is trained once the file `watching` is there, and a folder for pictures or null. Each line that it writes is an object with `when`; one with
// `when: 'error'` is something that the browser's console said, or a page that is wider than the screen.

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { launch } from './browser.mjs';
import { finish, readInput, writeLine } from './lines.mjs';

const { grid, token, name, version, watching, pictures } = await readInput();
const browser = await launch();
const wide = { viewport: { width: 1200, height: 800 } };
const context = await browser.newContext({ ...wide, colorScheme: 'light' });
let isRefused = false; // a wrong token is answered with 401, which Chromium's console tells
const page = await watched(context);

async function watched(context) {
  const page = await context.newPage();
  page.on('console', (message) => {
    const told = message.type() === 'error' || message.type() === 'warning';
    if (told && !(isRefused && message.text().includes('status of 401'))) writeLine({ when: 'error', message: message.text() });
  });
  page.on('pageerror', (error) => writeLine({ when: 'error', message: String(error) }));
  return page;
}

const text = (place, selector = 'main') => place.locator(selector).innerText();

async function picture(place, file) {
  const over = await place.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (over > 0) writeLine({ when: 'error', message: `${file} is ${over} pixels too wide` });
  if (pictures) await place.screenshot({ path: join(pictures, `${file}.png`) });
}

// Signing in, by keyboard alone
await page.goto(`${grid}/`);
writeLine({ when: 'asked', url: page.url(), focused: await page.evaluate(() => document.activeElement.id) });
isRefused = true;
await page.keyboard.type('a wrong token');
await page.keyboard.press('Enter');
await page.waitForSelector('#failed');
writeLine({ when: 'refused', text: await text(page, '#failed') });
isRefused = false;
await page.keyboard.type(token);
await page.keyboard.press('Enter');
await page.waitForSelector('#models table');
await picture(page, 'models');
writeLine({ when: 'models', text: await text(page) });

// A model, while it is trained: its numbers and plots change without a reload
await page.click(`a:has-text("${name}")`);
await page.waitForSelector('#now .facts');
await page.evaluate(() => { window.isSamePage = true; });
const before = await text(page, '#now');
await writeFile(watching, ''); // now it is trained
await page.waitForFunction((text) => document.querySelector('#now').innerText !== text, before);
await page.waitForFunction(() => document.querySelectorAll('#past tbody tr').length >= 3, undefined, { timeout: 60_000 });
await page.waitForFunction(() => document.querySelectorAll('#plots canvas').length >= 2);
await page.waitForFunction(() => document.querySelector('#now').innerText.includes('4 of'), undefined, { timeout: 60_000 });
writeLine({
  when: 'changed',
  text: await text(page),
  plots: await page.locator('#plots figcaption').allInnerTexts(),
  same: await page.evaluate(() => window.isSamePage === true),
});
await page.waitForTimeout(500); // the last change
await picture(page, 'model');
await page.waitForFunction(() => /in \d+ (min|s|h)/.test(document.querySelector('#now').innerText));

// Everything that can be done with it
await page.click('#do-pause');
await page.waitForSelector('[role=status]');
writeLine({ when: 'paused', text: await text(page) });
await page.click('#do-resume');
await page.waitForSelector('#do-pause');
await page.fill('#more-cycles', '5');
await page.keyboard.press('Enter');
await page.waitForSelector('[role=status]');
writeLine({ when: 'extended', text: await text(page, '#now') });
const [download] = await Promise.all([page.waitForEvent('download'), page.click('#download-2')]);
writeLine({ when: 'downloaded', file: download.suggestedFilename() });
await page.click('#rollback-2');
await page.waitForSelector('button.danger');
await picture(page, 'confirm');
await page.click('button.danger');
await page.waitForSelector('[role=status]');
writeLine({ when: 'rolled back', text: await text(page, '#checkpoints') });

// Every other page
await page.click('a:has-text("training_plan")');
await page.waitForSelector('.listing');
writeLine({ when: 'plan', text: await text(page) });
await picture(page, 'plan');
await page.click('header nav a:has-text("Events")');
await page.waitForSelector('.events');
writeLine({ when: 'events', text: await text(page) });
await picture(page, 'events');
await page.click('header nav a:has-text("Tokens")');
await page.fill('#name', 'made in a browser');
await page.check('input[value=observe]');
await page.click('main form button');
await page.waitForSelector('#secret');
const made = await text(page, '#secret');
writeLine({ when: 'made', token: made });
await picture(page, 'tokens');

// Who only looks: another browser, dark, then a telephone
const looks = await watched(await browser.newContext({ ...wide, colorScheme: 'dark' }));
await looks.goto(`${grid}/model?name=${encodeURIComponent(name)}&version=${encodeURIComponent(version)}`);
await looks.fill('#token', made);
await looks.keyboard.press('Enter');
await looks.waitForSelector('#plots canvas');
writeLine({ when: 'looks', url: looks.url(), controls: await looks.locator('.controls').count() });
await picture(looks, 'model-dark');
await looks.setViewportSize({ width: 390, height: 800 });
await looks.waitForTimeout(400); // the plots are drawn anew
await picture(looks, 'model-phone');
await looks.goto(`${grid}/`);
await picture(looks, 'models-phone');

// Its token is revoked, and the page leads it out by itself
await page.click('a:has-text("Revoke made in a browser")');
await page.click('button.danger');
await page.waitForSelector('[role=status]');
await looks.waitForSelector('#token');
writeLine({ when: 'led out', text: await text(looks) });

await page.click('header nav a:has-text("Models")');
await page.click(`a:has-text("${name}")`);
await page.click('a:has-text("Delete")');
await page.check('input[name=force]');
await page.click('button.danger');
await page.waitForSelector('[role=status]');
writeLine({ when: 'deleted', text: await text(page) });
await page.click('button:has-text("Sign out")');
await page.waitForSelector('#token');
await picture(page, 'login');
await browser.close();
finish();
