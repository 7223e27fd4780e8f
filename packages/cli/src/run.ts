import { messageOf, UsageError, UserError, UserErrors } from '@flatcar/core';
import { Command, CommanderError } from 'commander';
import { Cancelled } from './ask.ts';
import { addBind } from './commands/bind.ts';
import { addBuild } from './commands/build.ts';
import { addBump } from './commands/bump.ts';
import { addButane } from './commands/butane.ts';
import { addCache } from './commands/cache.ts';
import { addCi } from './commands/ci/index.ts';
import { addDiff } from './commands/diff.ts';
import { addDocs } from './commands/docs.ts';
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
import { paint } from './terminal.ts';

/** Exit codes, the same for every command. */
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

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted`,
    );
  for (const add of [
    addBuild,
    addBind,
    addList,
    addReleases,
    addLint,
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
    command.exitOverride().showHelpAfterError('(add --help for the options)');
    command.commands.forEach(quiet);
  };
  quiet(root);
  return root;
}

function explain(error: unknown, debug: boolean): void {
  const show = (one: UserError, indent: string): void => {
    console.error(`${indent}${paint('red', 'error:', process.stderr)} ${one.message.replaceAll('\n', `\n${indent}  `)}`);
    if (one.where !== undefined) console.error(`${indent}  at: ${one.where}`);
    if (one.next !== undefined) console.error(`${indent}  do: ${one.next}`);
  };
  if (error instanceof UserError) {
    show(error, '');
    if (error instanceof UserErrors) for (const one of error.errors) show(one, '  ');
  } else {
    console.error(
      `${paint('red', 'error:', process.stderr)} ${messageOf(error)}\n  do: this should not happen; please report it with the output of --debug`,
    );
  }
  if (debug) console.error(error);
}

/** Runs one command line and gives its exit code. */
export async function run(args: readonly string[]): Promise<number> {
  const interrupt = new AbortController();
  const onSignal = (): void => {
    if (interrupt.signal.aborted) process.exit(EXIT.interrupted); // a second Ctrl-C does not wait
    console.error('interrupted, cleaning up');
    interrupt.abort(new UserError('interrupted'));
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    await program(interrupt.signal).parseAsync(args, { from: 'user' });
    return EXIT.ok;
  } catch (error) {
    if (interrupt.signal.aborted) return EXIT.interrupted;
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    explain(error, args.includes('--debug'));
    if (error instanceof UsageError) return EXIT.usage;
    return error instanceof Cancelled ? EXIT.interrupted : EXIT.failure;
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}
