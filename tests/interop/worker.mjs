// A worker in Node: reads a task on standard input, writes a line of JSON for everything that happens.

import { takePart } from './cycles.mjs';
import { finish, readInput, writeLine } from './lines.mjs';
import { syft, tf } from './node_syft.mjs';

await takePart(tf, syft, await readInput(), writeLine);
finish(); // syft.js never closes its WebSocket
