import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { announceWaits, interruptible, UsageError, UserError, UserErrors, shortened } from '@flatcar/core/engine';
import { Command, CommanderError } from 'commander';
import { Cancelled } from './output/prompt.ts';
import { addBind } from './commands/bind.ts';
import { addBuild } from './commands/build.ts';
import { addBump } from './commands/bump.ts';
import { addButane } from './commands/butane.ts';
import { addCache } from './commands/cache.ts';
import { addCi } from './commands/ci/index.ts';
import { addDiff } from './commands/diff.ts';
import { addDocs } from './commands/docs.ts';
import { addExplain } from './commands/explain.ts';
import { addInspect } from './commands/inspect.ts';
import { addKeys } from './commands/keys.ts';
import { addLint } from './commands/lint.ts';
import { addList } from './commands/list.ts';
import { addNew } from './commands/new.ts';
import { addMirror } from './commands/mirror.ts';
import { addOutdated } from './commands/outdated.ts';
import { addPin } from './commands/pin.ts';
import { addPlan } from './commands/plan.ts';
import { addPublish } from './commands/publish.ts';
import { addReleases } from './commands/releases.ts';
import { addRetire } from './commands/retire.ts';
import { addTest } from './commands/test.ts';
import { addVerify } from './commands/verify.ts';
import { addWithdraw } from './commands/withdraw.ts';
import { explanation } from './output/explanation.ts';
import { REPOSITORY } from '@flatcar/workspace/select';
import { isRepeatable } from './options.ts';
import { flushOutput, guardOutput, tell, tellStack, write } from './output/output.ts';

/** Exit codes, the same for every command; after a signal 128 and its number. */
const EXIT = { ok: 0, failure: 1, usage: 2, interrupted: 130 };

function program(signal: AbortSignal): Command {
  const root = new Command('flatcar-ext')
    .description('Builds, binds, checks and lists system extension images for Flatcar Container Linux.')
    .option('--debug', 'show stack traces')
    .showHelpAfterError('(add --help for the options)')
    .addHelpText(
      'after',
      `
Environment:
  FLATCAR_EXT_ARCH, _RELEASE, _ORIGIN, _PROFILE, _MIRROR   defaults of the options of the same names
  FLATCAR_EXT_CACHE            the store (default: flatcar-ext in the user's cache folder)
  FLATCAR_EXT_DEBIAN_MIRROR    where the image tools come from (default: the mirror of apt on Debian, else a public one)

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (SIGTERM: 143)`,
    );
  for (const add of [
    addBuild,
    addBind,
    addList,
    addReleases,
    addLint,
    addExplain,
    addInspect,
    addDiff,
    addVerify,
    addTest,
    addPin,
    addOutdated,
    addPlan,
    addPublish,
    addButane,
    addWithdraw,
    addRetire,
    addMirror,
    addKeys,
    addNew,
    addBump,
    addDocs,
    addCache,
    addCi,
  ])
    add(root, signal);
  // Set on all of them: errors come here instead of ending the process, so that clean-up runs.
  const quiet = (command: Command): void => {
    command
      .exitOverride()
      .showHelpAfterError('(add --help for the options)')
      .configureOutput({ writeOut: write, writeErr: (text) => tell(shortened(text.trimEnd(), 2000)) });
    refuseTwice(command);
    command.commands.forEach(quiet);
  };
  quiet(root);
  root.hook('preAction', (_, command) => refuseEmpty(command));
  return root;
}

/** An option with a value that is specified twice is a mistake: neither of the two is what was meant for sure. */
function refuseTwice(command: Command): void {
  for (const option of command.options) {
    if (option.isBoolean() || isRepeatable(option)) continue;
    let count = 0;
    command.on(`option:${option.name()}`, () => {
      count += 1;
      if (count > 1) throw new UsageError(`${option.long ?? option.flags} is specified twice`, { next: 'specify it once' });
    });
  }
}

/** A command as it is typed, from the program's name on. */
const fullName = (command: Command): string => (command.parent === null ? command.name() : `${fullName(command.parent)} ${command.name()}`);

/** Refuses an empty word, which comes of an empty variable in a script. Workflows have those: `ci` takes words that were not typed. */
function refuseEmpty(command: Command): void {
  const isCi = command.parent?.name() === 'ci';
  if (!isCi && command.args.includes(''))
    throw new UsageError('an argument is empty', { next: `leave it out, or write what it is to be: ${fullName(command)} --help` });
}

/**
 * How long an interrupted command may clean up before the process ends all the same, in milliseconds: whoever sent SIGTERM sends SIGKILL soon.
 * What is left then is removed by the next start.
 */
const PATIENCE = 1_500;

/** Whether an error, or anything that it consists of, says that the command line is wrong. */
const isUsage = (error: unknown): boolean =>
  error instanceof UsageError || (error instanceof UserErrors && error.errors.length > 0 && error.errors.every(isUsage));

/** Refuses to work on this checkout for somebody who stands in another one: it would be written to without a word. */
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

/** Runs one command line; `codeOfSignal` gives the exit code where a signal interrupted it. */
async function perform(args: readonly string[], interrupt: AbortController, codeOfSignal: () => number): Promise<number> {
  try {
    checkCheckout();
    await interruptible(interrupt.signal, () => program(interrupt.signal).parseAsync(args, { from: 'user' }));
    await flushOutput();
    return EXIT.ok;
  } catch (error) {
    if (interrupt.signal.aborted) return codeOfSignal();
    // --help ends so, too.
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

/** Runs one command line and gives its exit code. SIGINT, SIGTERM and SIGHUP end all that it started, and clean up. */
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
  announceWaits(tell);
  try {
    return await perform(args, interrupt, () => code);
  } finally {
    await flushOutput().catch(() => undefined);
    for (const name of signals) process.off(name, onSignal);
  }
}
