// What an app does with syft.js 0.1.4: whole cycles of training, in Node and in a page alike.
//
// A task is {url, model, version, token, plan, inputs, cycles, patience}: `inputs` names the Plan's inputs in
// order, out of data, target, batch_size, lr and params (all of the model's, in order); `cycles` holds for each
// cycle its batches, and a batch is {data, target}; `patience` says how many rejections are waited out. The Plan
// returns its loss first and the updated params last.

import { toBase64, toTensor } from './tensors.mjs';

// Takes part in as many cycles as the task has; `say` gets an object for everything that happens.
export async function takePart(tf, syft, task, say) {
  try {
    const { url, model: modelName, version: modelVersion, token: authToken } = task;
    const worker = new syft.Syft({ url, authToken, verbose: true }); // verbose, or it makes ws:// into wss://
    let rejections = 0;
    for (let done = 0; done < task.cycles.length; ) {
      const job = await worker.newJob({ modelName, modelVersion });
      const answer = await ask(job);
      say(answer);
      if (answer.event === 'accepted') {
        await train(tf, job, task, task.cycles[done++], say);
      } else {
        if (answer.timeout === undefined || ++rejections > task.patience) break;
        await new Promise((wake) => setTimeout(wake, 1000 * answer.timeout));
      }
    }
  } catch (error) {
    say({ event: 'error', message: error instanceof Error ? error.message : String(error) });
  }
  say({ event: 'done' });
}

// Starts a job; resolves with the event that ends its start.
function ask(job) {
  return new Promise((resolve, reject) => {
    job.on('accepted', ({ clientConfig }) => resolve({ event: 'accepted', clientConfig }));
    job.on('rejected', ({ timeout }) => resolve({ event: 'rejected', timeout }));
    job.on('error', reject);
    job.start();
  });
}

async function train(tf, job, task, batches, say) {
  const { model, clientConfig, plans, worker } = job;
  let params = model.params.map((param) => param.clone());
  for (const batch of batches) {
    const data = toTensor(tf, batch.data);
    const given = {
      data: [data],
      target: [toTensor(tf, batch.target)],
      batch_size: [tf.tensor([data.shape[0]])],
      lr: [tf.tensor([clientConfig.lr])],
      params,
    };
    const inputs = task.inputs.flatMap((name) => given[name]);
    const outputs = await plans[task.plan].execute(worker, ...inputs);
    say({ event: 'batch', loss: outputs[0].dataSync()[0] });
    params = outputs.slice(-params.length);
    tf.dispose([...inputs, ...outputs.slice(0, -params.length)]);
  }
  const diff = await model.createSerializedDiff(params);
  await job.report(diff);
  say({ event: 'reported', diff: toBase64(diff) });
}
