// Trains the model that the grid hosts, on this page's own digits: cycle after cycle, until it is stopped.

import { drawCurve, showDigits, showGuesses } from './view.js';

/* global tf, syft */

const $ = (id) => document.getElementById(id);

const settings = await load('settings.json'); // {url, model, version}
const { train, test } = await load('digits.json'); // each {images: [[64 numbers from 0 to 1], …], labels}
const mine = ownPart(train);
const testImages = tf.tensor2d(test.images);

const losses = [];
let cycles = 0;
let stopped = true;
let resume = () => {};

$('url').value = settings.url;
$('images').value = mine.length;
showDigits($('digits'), test.images);

$('form').onsubmit = (event) => {
  event.preventDefault();
  stopped = !stopped;
  $('button').textContent = stopped ? 'Resume' : 'Stop';
  if (stopped) say('Stopped.');
  else if ($('url').disabled) resume();
  else start();
};

async function start() {
  $('url').disabled = true;
  try {
    await takePart($('url').value);
  } catch (error) {
    say(`It ended: ${error.message}`);
  }
  stopped = true;
  $('url').disabled = false;
  $('button').textContent = 'Start';
}

async function load(file) {
  return (await fetch(file)).json();
}

// A random half of the digits stands for data that only this page has.
function ownPart({ images, labels }) {
  const samples = images.map((image, index) => ({ image, label: labels[index] }));
  return samples.filter(() => Math.random() < 0.5);
}

function say(text) {
  $('status').value = text;
}

// Waits while the training is stopped.
async function going() {
  if (stopped) await new Promise((resolve) => (resume = resolve));
}

async function takePart(url) {
  const worker = new syft.Syft({ url, verbose: true }); // without verbose it wants wss://, and misspells it
  for (;;) {
    await going();
    say('Asking for a place in the cycle.');
    const job = await worker.newJob({ modelName: settings.model, modelVersion: settings.version });
    const rejected = await ask(job);
    if (rejected === undefined) {
      await trainCycle(job);
    } else if (rejected.timeout === undefined) {
      return say('The model is finished.');
    } else {
      say(`Not now; asking again in ${rejected.timeout} s.`);
      await new Promise((resolve) => setTimeout(resolve, 1000 * rejected.timeout));
    }
  }
}

// Asks for a place; resolves when the job is in the cycle, or with the rejection.
function ask(job) {
  return new Promise((resolve, reject) => {
    job.on('accepted', () => resolve());
    job.on('rejected', resolve);
    job.on('error', reject);
    job.start();
  });
}

async function trainCycle(job) {
  const { worker, model, plans, clientConfig } = job;
  let params = model.params.map((param) => param.clone());
  for (const batch of batches(clientConfig)) {
    await going();
    say('Training.');
    const data = tf.tensor2d(batch.map((sample) => sample.image));
    const target = tf.tensor1d(batch.map((sample) => sample.label), 'int32');
    const rate = tf.tensor1d([clientConfig.lr]);
    const [loss, ...trained] = await plans.training_plan.execute(worker, data, target, rate, ...params);
    note((await loss.data())[0]);
    tf.dispose([data, target, rate, loss, ...params]);
    params = trained;
    if (losses.length % 5 === 1) await guess(job, params);
    await tf.nextFrame(); // lets the page draw
  }
  await guess(job, params);
  await report(job, params);
  tf.dispose([...params, ...model.params]);
}

// As many batches as the grid asks for, of samples in random order.
function* batches({ batch_size: size, max_updates: count }) {
  for (let number = 0; number < count; number++) {
    yield Array.from({ length: size }, () => mine[Math.floor(mine.length * Math.random())]);
  }
}

async function report(job, params) {
  try {
    await job.report(await job.model.createSerializedDiff(params));
    $('cycles').textContent = ++cycles;
  } catch (error) {
    say(error.message); // most likely it comes too late, after a long stop; the next cycle goes on
  }
}

function note(loss) {
  losses.push(loss);
  $('batches').textContent = losses.length;
  $('loss').textContent = loss.toFixed(3);
  drawCurve($('curve'), losses);
}

// Shows what the model makes of the test digits, by the grid's second Plan.
async function guess(job, params) {
  const [scores] = await job.plans.prediction_plan.execute(job.worker, testImages, ...params);
  const guesses = tf.tidy(() => Array.from(scores.argMax(1).dataSync()));
  scores.dispose();
  const right = guesses.filter((digit, index) => digit === test.labels[index]).length;
  $('accuracy').textContent = `${((100 * right) / guesses.length).toFixed(1)} %`;
  showGuesses($('digits'), guesses, test.labels);
}
