import { inspect } from 'node:util';
import { UserError, describeErrno, jsonText, shownText } from '@flatcar/core/engine';

// All output of commands goes through this file, so that text of others (names in images, output of compilers, responses of servers) never
// reaches a terminal or the runner of a workflow as a command. The linter refuses console and process.stdout elsewhere in this package.

/** How much is written to standard error besides notices and errors: nothing, steps, or the output of programs as well. */
export type Verbosity = 'quiet' | 'normal' | 'verbose';
let chosen: Verbosity = 'normal';

/** Sets how much is written to standard error from now on. */
export function setVerbosity(verbosity: Verbosity): void {
  chosen = verbosity;
}

/** How much is written to standard error. */
export const verbosity = (): Verbosity => chosen;

/** The first failure to write to standard output. */
let failure: NodeJS.ErrnoException | undefined;
const writing = new Set<Promise<void>>();

const ignore = (): undefined => undefined;

function remember(error: NodeJS.ErrnoException): void {
  failure ??= error;
}

/** Writes text that a program reads to standard output, unchanged: a document of `butane`, a script. flushOutput() reports failures. */
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

/** Writes a line about progress to standard error, unless --quiet was passed. */
export function tellStatus(text: string): void {
  if (chosen !== 'quiet') tell(text);
}

/** Writes a line for people to standard error. */
export function tell(text: string): void {
  process.stderr.write(`${shownText(text)}\n`);
}

/** Writes an error with its stack, as Node would show it. */
export function tellStack(error: unknown): void {
  tell(inspect(error));
}

/** Makes GitHub's runner ignore commands in the output until `end` is called; `word` must be unpredictable. */
export function fenceCommands(word: string): { end: () => void } {
  // https://docs.github.com/actions/reference/workflow-commands-for-github-actions#stopping-and-starting-workflow-commands
  writeRaw(`::stop-commands::${word}\n`);
  return { end: () => writeRaw(`::${word}::\n`) };
}

/** Where steps that run as separate processes write their output (packages/workspace ci/attempt). */
export const stepOutput = { tell, fence: fenceCommands };

/** Remembers failures to write instead of ending the process with a stack; those to standard error cannot be reported. */
export function guardOutput(): void {
  process.stdout.off('error', remember).on('error', remember);
  process.stderr.off('error', ignore).on('error', ignore);
}

/** Waits until all output is written. Throws a UserError if a write failed; a reader that has gone away (`| head`) is not a failure. */
export async function flushOutput(): Promise<void> {
  await Promise.all(writing);
  const error = failure;
  failure = undefined;
  if (error === undefined || error.code === 'EPIPE') return;
  throw new UserError(`cannot write the output: ${describeErrno(error)?.message ?? error.message}`, {
    where: 'standard output',
    next: describeErrno(error)?.next ?? 'send the output elsewhere',
    cause: error,
  });
}
