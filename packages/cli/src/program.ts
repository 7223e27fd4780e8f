import { shortened, UsageError } from '@flatcar/core/engine';
import { Command } from 'commander';
import { addBind } from './commands/bind.ts';
import { addBuild } from './commands/build.ts';
import { addBump } from './commands/bump.ts';
import { addButane } from './commands/butane.ts';
import { addCache } from './commands/cache.ts';
import { addCi } from './commands/ci/index.ts';
import { addDiff } from './commands/diff.ts';
import { addDocs } from './commands/docs.ts';
import { addDoctor } from './commands/doctor.ts';
import { addRemove } from './commands/remove.ts';
import { addCompletion } from './commands/completion.ts';
import { addExplain } from './commands/explain.ts';
import { addFetch } from './commands/fetch.ts';
import { addImportBakery } from './commands/import-bakery.ts';
import { addInspect } from './commands/inspect.ts';
import { addKeys } from './commands/keys.ts';
import { addLint } from './commands/lint.ts';
import { addList } from './commands/list.ts';
import { addMirror } from './commands/mirror.ts';
import { addNew } from './commands/new.ts';
import { addOutdated } from './commands/outdated.ts';
import { addPin } from './commands/pin.ts';
import { addPlan } from './commands/plan.ts';
import { addPublish } from './commands/publish.ts';
import { addReady } from './commands/ready.ts';
import { addReleases } from './commands/releases.ts';
import { addRetire } from './commands/retire.ts';
import { addShow } from './commands/show.ts';
import { addTest } from './commands/test.ts';
import { addVerify } from './commands/verify.ts';
import { addVersion } from './commands/version.ts';
import { addWithdraw } from './commands/withdraw.ts';
import { addHelp, helpLayout } from './help.ts';
import { isRepeatable } from './options.ts';
import { setVerbosity, tell, write } from './output/output.ts';

const MACHINE = 'This machine:';

type Add = (root: Command, signal: AbortSignal) => void;

/** The commands as help lists them: by what they are for. */
const GROUPS: readonly (readonly [title: string, commands: readonly Add[]])[] = [
  ['Images:', [addBuild, addBind, addInspect, addDiff, addVerify, addLint, addExplain, addList, addReleases]],
  ['Maintaining extensions:', [addNew, addImportBakery, addOutdated, addBump, addPin, addTest, addDocs, addRemove]],
  ['Publishing:', [addPlan, addPublish, addWithdraw, addRetire, addMirror, addKeys]],
  ['Reading a published tree:', [addShow, addButane, addFetch, addReady]],
  [MACHINE, [addDoctor, addCache, addCompletion, addVersion]],
  ['Workflows:', [addCi]],
];

/** The command line. Errors are thrown instead of ending the process, so that clean-up runs. */
export function createProgram(signal: AbortSignal): Command {
  const root = new Command('flatcar-ext')
    .description('Build, check and publish system extension images for Flatcar Container Linux.')
    .option('-q, --quiet', 'print results, notices and errors only, without progress')
    .option('-v, --verbose', 'print the output of the programs that are run')
    .option('--debug', 'print stack traces of errors')
    .helpOption('-h, --help', 'print the help of a command')
    .addHelpCommand(new Command('help').argument('[command]').description('print the help of a command').helpGroup(MACHINE))
    .configureHelp(helpLayout())
    .configureOutput({
      writeOut: write,
      writeErr: (text) => tell(shortened(text.trimEnd(), 2000)),
      outputError: (text, writeError) => writeError(inOurForm(text)),
    })
    .exitOverride();
  for (const [title, commands] of GROUPS) {
    root.commandsGroup(title);
    for (const add of commands) add(root, signal);
  }
  addHelp(root, {
    environment: {
      FLATCAR_EXT_ARCH: 'default of --arch; _RELEASE, _ORIGIN, _PROFILE, _MIRROR, _KEYS, _KEYRING and _BASE_URL likewise',
      FLATCAR_EXT_CACHE: "folder of the store (default: flatcar-ext in the user's cache folder)",
      FLATCAR_EXT_DEBIAN_MIRROR: 'URL that Debian packages are fetched from (default: the mirror of apt on Debian, else a public one)',
    },
    text: ['Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted by SIGINT, 143 by SIGTERM.'],
    examples: [
      '# build an image in ten seconds, and see what it contains',
      'flatcar-ext build ripgrep',
      'flatcar-ext inspect extensions/ripgrep/dist/portable/*.raw',
      '# find out what this machine lacks',
      'flatcar-ext doctor',
    ],
  });
  refuseRepeated(root);
  root.hook('preAction', (_, command) => {
    const { quiet, verbose } = root.opts<{ quiet?: boolean; verbose?: boolean }>();
    setVerbosity(quiet === true ? 'quiet' : verbose === true ? 'verbose' : 'normal');
    refuseEmpty(command);
  });
  return root;
}

/** An error of commander in the form of ours: what is wrong, then what to do. */
function inOurForm(text: string): string {
  const [line = '', hint = ''] = text.trimEnd().split('\n');
  const [, what = line, expected] = /^(.*?)\. (.*?)\.?$/.exec(line) ?? [];
  const similar = /^\(Did you mean (?:one of )?(.*)\?\)$/.exec(hint)?.[1]?.split(', ');
  const next =
    similar === undefined
      ? (expected?.replace(/^[A-Z]/, (letter) => letter.toLowerCase()) ?? 'add --help to see the options')
      : `did you mean ${similar.map((word) => `'${word}'`).join(' or ')}?`;
  return `${what}\n  do: ${next}\n`;
}

/** Refuses an option with one value that is specified twice: neither of the two is certainly the right one. */
function refuseRepeated(command: Command): void {
  for (const option of command.options) {
    if (option.isBoolean() || isRepeatable(option)) continue;
    let count = 0;
    command.on(`option:${option.name()}`, () => {
      count += 1;
      if (count > 1) throw new UsageError(`${option.long ?? option.flags} is specified twice`, { next: 'specify it once' });
    });
  }
  command.commands.forEach(refuseRepeated);
}

/** A command as it is typed, with the name of the program. */
const fullName = (command: Command): string => (command.parent === null ? command.name() : `${fullName(command.parent)} ${command.name()}`);

/** Refuses an empty argument, which an empty variable of a script leaves. Commands of `ci` accept them: workflows have empty inputs. */
function refuseEmpty(command: Command): void {
  if (command.parent?.name() !== 'ci' && command.args.includes(''))
    throw new UsageError('an argument is empty', { next: `leave it out or specify a value: ${fullName(command)} --help` });
}
