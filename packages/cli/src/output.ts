import { UserError, describeErrno } from '@flatcar/core';

/** The first failure to write to standard output. */
let failure: NodeJS.ErrnoException | undefined;
const writing = new Set<Promise<void>>();

function remember(error: NodeJS.ErrnoException): void {
  failure ??= error;
}

/** Writes text to standard output as it is; flushOutput() tells whether it was written. All that a command prints goes through here. */
export function write(text: string): void {
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

/** Writes a line to standard output. */
export function print(text: string): void {
  write(`${text}\n`);
}

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
