import { UsageError } from '@flatcar/core/engine';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { addHelp } from '../help.ts';
import { openPrompter } from '../output/prompt.ts';
import { requestOf, type Flags } from '@flatcar/workspace/new/flags';
import type { NewExtensionResult } from '@flatcar/workspace/new/make';
import type { Prompter } from '@flatcar/workspace/new/prompter';
import { collect, jsonOption, mirrorOption, parseKeyValue } from '../options.ts';
import { reporter } from '../output/reporter.ts';
import { show } from '../output/terminal.ts';
import { openUpstream } from '@flatcar/workspace/open-upstream';

const text = ({ extension, version, files, lines, seconds, built }: NewExtensionResult): string =>
  [
    `${extension} ${version}: ${lines} lines of definition, ${seconds} s`,
    ...files.map((file) => `  ${file}`),
    '',
    built
      ? 'It was built and linted for this machine’s architecture.'
      : 'It was not built, and its programs were not tried: fill in the commands of test/extension.test.ts, which fails until then.',
    '',
    'Next:',
    `  flatcar-ext build ${extension} --arch x86-64,arm64`,
    `  npx vitest run --project merge extensions/${extension}      merges it (needs root)`,
    `  git add extensions/${extension} package-lock.json README.md && git commit -m 'Add ${extension}'`,
  ].join('\n');

/** What an origin is asked for on a terminal. */
const ORIGIN_QUESTIONS = {
  github: 'Which project (owner/repo)?',
  url: 'Which URL?',
  go: 'Which module?',
  cargo: 'Which crate?',
  debian: 'Which packages?',
} as const;

async function askOrigin(kind: keyof typeof ORIGIN_QUESTIONS, prompter: Prompter): Promise<string | string[]> {
  const answer = await prompter.text(ORIGIN_QUESTIONS[kind], `--${kind}`);
  return kind === 'debian' ? answer.split(/[\s,]+/) : answer;
}

/** Parses the name of a GitHub project. */
function ownerAndName(text: string): string {
  if (!/^[\w.-]+\/[\w.-]+$/.test(text)) throw new InvalidArgumentError('Expected owner/repo.');
  return text;
}

/** `new`: a new extension, from what upstream offers. */
export function addNew(root: Command, signal: AbortSignal): void {
  const command = root
    .command('new')
    .summary('add an extension from what upstream offers')
    .description('add an extension: read what upstream offers, write the package, pin it, build it and try its programs')
    .argument('<name>', 'name of the extension')
    .option(
      '--github <owner/repo>',
      'a GitHub project: its releases are the versions, and have the files unless --url names others',
      ownerAndName,
    )
    .option('--listing <file>', "with --github: a saved response of GitHub's API (…/releases or …/releases/latest) to read instead")
    .option(
      '--asset <pattern>',
      'with --github: name of the file, such as tool_{version}_linux_{arch}.tar.gz ({machine} is x86_64 or aarch64)',
    )
    .option('--url <url>', 'URL of the file with {version}, {arch} or {machine}; or the URL of one version, with --version')
    .option('--checksum <what>', 'where its hash is published: {url}.sha256, the name of a list next to the file, github, or none')
    .addOption(new Option('--arch-words <x86,arm>', 'what {arch} stands for').default(undefined, 'amd64,arm64'))
    .addOption(new Option('--tag-prefix <text>', 'what precedes the version in tags').default(undefined, 'v'))
    .option('--go <module>', 'a Go module to compile: instead of files of upstream, or if their host cannot be reached')
    .option('--package <folder>', 'with --go: main package below the module (. is its root); repeat it for each program', collect)
    .option(
      '--stamp <variable=value>',
      "with --go: variable that -X sets, with {version} replaced; repeatable (default: as upstream's build files do)",
      parseKeyValue,
    )
    .option('--tags <list>', 'with --go: build tags, comma-separated')
    .option('--cargo <crate>', 'a crate to compile')
    .option('--features <list>', 'with --cargo: features, comma-separated')
    .option('--debian <package...>', 'packages of Debian, with all libraries that they need')
    .option(
      '--files [folder]',
      'files of this repository only, with a date as version: a copy of this folder, laid out as the image is (usr/…)',
    )
    .option('--suite <name>', 'with --debian: suite', 'trixie')
    .option('--program <name>', 'program to install in /usr/bin; repeatable', collect)
    .addOption(new Option('--version <version>', 'version to pin').default(undefined, 'the newest'))
    .option('--track <policy>', "versions to pin and publish: newest, '3 minors' or '2 branches'", 'newest')
    .option('--summary <text>', 'what the extension is, in one line')
    .option('--license <spdx>', 'license, as an SPDX expression')
    .option(
      '--unit <command>',
      "write a service that runs this command and starts with the image; with --debian also the name of a package's own",
    )
    .option('--condition <path>', 'with --unit: start it only if this file exists')
    .option('--sha256 <arch=hash>', 'hash of the file, known from elsewhere; one for each architecture, with --proof', parseKeyValue)
    .option('--proof <text>', 'with --sha256: where the hashes are from')
    .option('--other-version <reason>', 'why a program reports another version than the pinned one')
    .option('--no-build', 'do not build it, and do not try its programs')
    .option('-y, --yes', 'do not prompt: accept what is proposed, and fail if a value without a proposal is missing')
    .addOption(mirrorOption())
    .addOption(jsonOption())
    .action(async (name: string, flags: Flags) => {
      const started = Date.now();
      const { assertFree, completeEntry, findUnlisted, make } = await import('@flatcar/workspace/new/make');
      const { report, done } = await reporter();
      const context = openUpstream(report, signal, flags.mirror);
      const tell = (made: Omit<NewExtensionResult, 'seconds'>): void => {
        done();
        show({ ...made, seconds: Math.round((Date.now() - started) / 1000) }, flags.json, text);
      };
      const unlisted = await findUnlisted(name);
      if (unlisted !== undefined) return tell(await completeEntry(unlisted, flags, context));
      await assertFree(name);
      const { planNew } = await import('@flatcar/workspace/new/plan-new');
      const { invalidLicense } = await import('@flatcar/workspace/new/prompter');
      const { prompter, isAttended } = await openPrompter(flags.yes, signal);
      const hasOrigin = [flags.github, flags.url, flags.go, flags.cargo, flags.debian, flags.files].some((one) => one !== undefined);
      if (!hasOrigin && !isAttended)
        throw new UsageError('nothing specifies where the files come from', {
          next: 'pass --github, --url, --go, --cargo, --debian or --files',
        });
      let given = flags;
      if (!hasOrigin) {
        const kind = await prompter.choose('Where does it come from?', [
          { value: 'github', label: 'files of GitHub releases' },
          { value: 'url', label: 'files at another URL' },
          { value: 'go', label: 'a Go module' },
          { value: 'cargo', label: 'a Rust crate' },
          { value: 'debian', label: 'packages of Debian' },
          { value: 'files', label: 'files of this repository only' },
        ] as const);
        given = kind === 'files' ? { ...flags, files: true } : { ...flags, [kind]: await askOrigin(kind, prompter) };
      }
      const plan = await planNew(await requestOf(name, given), prompter, context);
      const askLicense = async (component: string, hint?: string): Promise<string> => {
        done(); // no moving line beside a question
        return prompter.text(
          `The licence of ${component}, as SPDX?${hint === undefined ? '' : ` (${hint})`}`,
          '--license',
          undefined,
          invalidLicense,
        );
      };
      tell(await make(plan, given, isAttended ? askLicense : undefined, context, report));
    });
  addHelp(command, {
    text: [
      'On a terminal it asks for what it cannot find out. It writes extensions/NAME/ completely or not at all, its entry in package-lock.json and its line in README.md. An extension that cannot be built stays, with its pins: correct it, then run flatcar-ext build NAME.',
    ],
    examples: [
      'flatcar-ext new k9s --github derailed/k9s',
      '# compile it if GitHub cannot be reached',
      'flatcar-ext new k9s --github derailed/k9s --go github.com/derailed/k9s',
      'flatcar-ext new helm --github helm/helm --url https://get.helm.sh/helm-v{version}-linux-{arch}.tar.gz --checksum {url}.sha256',
      'flatcar-ext new zellij --cargo zellij',
      'flatcar-ext new node-exporter --go github.com/prometheus/node_exporter --program node_exporter --unit node_exporter',
      "flatcar-ext new btop --debian btop --summary 'a monitor of resources'",
      '# a daemon with its users, folders and configuration',
      'flatcar-ext new chrony --debian chrony --unit chrony.service',
      "flatcar-ext new site-tools --files ./tree --summary 'the tools of our site'",
    ],
  });
}
