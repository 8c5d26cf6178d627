// JSON in on standard input, lines of JSON out on standard output.

export async function readInput() {
  let text = '';
  for await (const piece of process.stdin) text += piece;
  return JSON.parse(text);
}

export function writeLine(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

// Ends the program once everything is written, whatever still runs.
export function finish() {
  process.stdout.write('', () => process.exit());
}
