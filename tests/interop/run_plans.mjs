// Runs Plans in Node: reads [{plan, inputs}, …] on standard input, writes a line of JSON for each.

import { readInput, writeLine } from './lines.mjs';
import { syft, tf } from './node_syft.mjs';
import { runPlan } from './plans.mjs';

tf.setBackend('cpu');
for (const task of await readInput()) writeLine(await runPlan(tf, syft, task));
