// Plans, run as syft.js runs them: read by its own protobuf, executed by its own Plan.

import { fromTensor, toTensor } from './tensors.mjs';

// Runs one Plan on its inputs (tensors, or plain numbers); resolves with {outputs} or {error}.
export async function runPlan(tf, syft, { plan, inputs }) {
  try {
    const worker = new syft.Syft({ url: 'ws://localhost', verbose: true });
    const loaded = await load(worker, toBuffer(plan));
    const given = inputs.map((input) => (typeof input === 'number' ? input : toTensor(tf, input)));
    return { outputs: (await loaded.execute(worker, ...given)).map((output) => describe(tf, output)) };
  } catch (error) {
    return { error: error.message };
  }
}

// A Plan can be loaded only by a job: this one is in no cycle, and has its downloads here instead of a grid.
async function load(worker, plan) {
  worker.worker_id = 'nobody'; // else it would authenticate
  const job = await worker.newJob({});
  job.grid = { getModel: () => new ArrayBuffer(0), getPlan: () => plan };
  await job.initCycle({ plans: { plan: 0 }, protocols: {} });
  return job.plans.plan;
}

function describe(tf, output) {
  if (output instanceof tf.Tensor) return { tensor: fromTensor(output) };
  if (Array.isArray(output)) return { list: output.map((item) => describe(tf, item)) };
  return { other: String(output) };
}

function toBuffer(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)).buffer;
}
