import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { announceWaits, interruptible, UsageError, UserError, UserErrors } from '@flatcar/core/engine';
import { CommanderError } from 'commander';
import { Cancelled } from './output/prompt.ts';
import { explanation } from './output/explanation.ts';
import { REPOSITORY } from '@flatcar/workspace/select';
import { flushOutput, guardOutput, setVerbosity, tell, tellStack, tellStatus } from './output/output.ts';
import { createProgram } from './program.ts';

/** Exit codes of all commands; after a signal 128 plus its number. */
const EXIT = { ok: 0, failure: 1, usage: 2, interrupted: 130 };

/**
 * How long an interrupted command may clean up before the process ends, in milliseconds: whoever sent SIGTERM sends SIGKILL soon. The next
 * start removes what is left.
 */
const PATIENCE = 1_500;

/** Whether an error, or each error that it consists of, is about the command line. */
const isUsage = (error: unknown): boolean =>
  error instanceof UsageError || (error instanceof UserErrors && error.errors.length > 0 && error.errors.every(isUsage));

/** Refuses to run in a folder of another checkout: this one would be written to, unnoticed. */
function checkCheckout(): void {
  for (let at = process.cwd(); ; at = dirname(at)) {
    const own = join(at, 'packages/cli/bin/flatcar-ext');
    if (at !== REPOSITORY && existsSync(own))
      throw new UsageError(`this flatcar-ext works on ${REPOSITORY}, and the current folder belongs to another checkout`, {
        where: at,
        next: `run ${own}, or change to another folder`,
      });
    if (at === REPOSITORY || at === dirname(at)) return;
  }
}

/** `--version` is what `version` is for people of other programs. As an option of the program it would take that name from `new --version`. */
const commandLine = (args: readonly string[]): readonly string[] => (args[0] === '--version' ? ['version', ...args.slice(1)] : args);

/** Runs one command line and returns its exit code; `codeOfSignal` returns the one after a signal. */
async function perform(args: readonly string[], interrupt: AbortController, codeOfSignal: () => number): Promise<number> {
  try {
    checkCheckout();
    await interruptible(interrupt.signal, () => createProgram(interrupt.signal).parseAsync(commandLine(args), { from: 'user' }));
    await flushOutput();
    return EXIT.ok;
  } catch (error) {
    if (interrupt.signal.aborted) return codeOfSignal();
    // --help and --version end by an error, too.
    const thrown =
      error instanceof CommanderError && error.exitCode === 0
        ? await flushOutput().then(
            () => undefined,
            (failed: unknown) => failed,
          )
        : error;
    if (thrown === undefined) return EXIT.ok;
    if (thrown instanceof CommanderError) return EXIT.usage;
    tell(explanation(thrown));
    if (args.includes('--debug')) tellStack(thrown);
    if (isUsage(thrown)) return EXIT.usage;
    return thrown instanceof Cancelled ? EXIT.interrupted : EXIT.failure;
  }
}

/** Runs one command line and returns its exit code. SIGINT, SIGTERM and SIGHUP end all that it started, and clean up. */
export async function run(args: readonly string[]): Promise<number> {
  const interrupt = new AbortController();
  let code = EXIT.interrupted;
  const onSignal = (name: NodeJS.Signals): void => {
    if (interrupt.signal.aborted) process.exit(code); // a second Ctrl-C does not wait
    code = 128 + constants.signals[name];
    tell('interrupted, cleaning up');
    interrupt.abort(new UserError('interrupted'));
    setTimeout(() => process.exit(code), PATIENCE).unref();
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const name of signals) process.on(name, onSignal);
  guardOutput();
  setVerbosity('normal');
  announceWaits(tellStatus);
  try {
    return await perform(args, interrupt, () => code);
  } finally {
    await flushOutput().catch(() => undefined);
    for (const name of signals) process.off(name, onSignal);
  }
}
