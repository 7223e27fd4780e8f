import { inspect } from 'node:util';
import { UserError, describeErrno, jsonText, shownText } from '@flatcar/core/engine';

// All that commands print goes through here, so that what others wrote (names in images, output of compilers, answers of servers) reaches neither
// a terminal nor the runner of a workflow as a command. The linter refuses console and process.stdout elsewhere in this package.

/** The first failure to write to standard output. */
let failure: NodeJS.ErrnoException | undefined;
const writing = new Set<Promise<void>>();

function remember(error: NodeJS.ErrnoException): void {
  failure ??= error;
}

/** Writes to standard output as it is what a program reads: a document of `butane`, a script. flushOutput() tells whether it was written. */
export function writeRaw(text: string): void {
  if (failure !== undefined) return;
  const written = new Promise<void>((resolve) => {
    process.stdout.write(text, (error) => {
      if (error !== null && error !== undefined) remember(error);
      resolve();
    });
  });
  writing.add(written);
  void written.then(() => writing.delete(written));
}

/** Writes text for people to standard output. */
export function write(text: string): void {
  writeRaw(shownText(text));
}

/** Writes a line for people to standard output. */
export function print(text: string): void {
  write(`${text}\n`);
}

/** Writes a value as a line of JSON, indented unless `indent` is 0. */
export function printJson(value: unknown, indent = 2): void {
  writeRaw(`${jsonText(value, indent)}\n`);
}

/** Writes a line for people to standard error: what happens, and what went wrong. */
export function tell(text: string): void {
  process.stderr.write(`${shownText(text)}\n`);
}

/** Writes an error with its stack, as Node would show it. */
export function tellStack(error: unknown): void {
  tell(inspect(error));
}

/** Has GitHub's runner take nothing for a command until it reads the word again, which nobody else knows. */
export function fenceCommands(word: string): { end: () => void } {
  // https://docs.github.com/actions/reference/workflow-commands-for-github-actions#stopping-and-starting-workflow-commands
  writeRaw(`::stop-commands::${word}\n`);
  return { end: () => writeRaw(`::${word}::\n`) };
}

/** What steps that run as processes of their own show their output by (packages/workspace ci/attempt). */
export const stepOutput = { tell, fence: fenceCommands };

/** From now on a failed write is remembered instead of ending the process with a stack; one to standard error has nowhere to be told. */
export function guardOutput(): void {
  process.stdout.on('error', remember);
  process.stderr.on('error', () => undefined);
}

/** Waits until all is written. Throws a UserError when it could not be; a reader that has gone away (`| head`) is no failure. */
export async function flushOutput(): Promise<void> {
  await Promise.all(writing);
  const error = failure;
  failure = undefined;
  if (error === undefined || error.code === 'EPIPE') return;
  throw new UserError(`the output could not be written: ${describeErrno(error)?.message ?? error.message}`, {
    where: 'standard output',
    next: describeErrno(error)?.next ?? 'send the output elsewhere',
    cause: error,
  });
}
