import type { Prompter } from '@flatcar/workspace/new/plan';
import type { Command } from 'commander';
import { openAsk } from '../output/prompt.ts';
import { requestOf, type Flags } from '@flatcar/workspace/new/request';
import type { NewExtensionResult } from '@flatcar/workspace/new/make';
import { collect, mirrorOption, parseKeyValue } from '../options.ts';
import { reporter, show } from '../output/terminal.ts';
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

async function askOrigin(kind: keyof typeof ORIGIN_QUESTIONS, ask: Prompter): Promise<string | string[]> {
  const answer = await ask.text(ORIGIN_QUESTIONS[kind], `--${kind}`);
  return kind === 'debian' ? answer.split(/[\s,]+/) : answer;
}

/** `new`: a new extension, from what upstream offers. */
export function addNew(root: Command, signal: AbortSignal): void {
  root
    .command('new')
    .description('add an extension: look at upstream, write the package, pin it, build and try it')
    .argument('<name>', 'name of the extension')
    .option('--github <owner/repo>', "releases of a GitHub project: versions, and files unless --url says others'")
    .option(
      '--listing <file>',
      "with --github: a saved answer of GitHub's API (…/releases or …/releases/latest), where it cannot be reached",
    )
    .option('--asset <pattern>', 'with --github: the file, such as tool_{version}_linux_{arch}.tar.gz ({machine} is x86_64, aarch64)')
    .option('--url <url>', 'the file, wherever it is; {version}, {arch}, {machine}, or the URL of one version with --version')
    .option('--checksum <what>', '{url}.sha256, the name of a list beside the file, github, or none')
    .option('--arch-words <x86,arm>', 'words for {arch} that are not amd64 and arm64')
    .option('--tag-prefix <text>', 'what stands before the version in tags, v unless said')
    .option('--go <module>', 'a Go module: compiled from the module proxy, alone or where upstream files cannot be reached')
    .option('--package <folder>', 'with --go: main package below the module, . for its root; once per program', collect)
    .option(
      '--stamp <variable=value>',
      "with --go: what -X writes, {version} filled in; upstream's own build files unless said",
      parseKeyValue,
    )
    .option('--tags <list>', 'with --go: build tags')
    .option('--cargo <crate>', 'a crate: compiled from the crates registry')
    .option('--features <list>', 'with --cargo: features')
    .option('--debian <package...>', 'packages of Debian, with all libraries that they need')
    .option(
      '--files [folder]',
      'files of this repository only, dated: those of a folder that is laid out as the image is (usr/…), or to be filled in',
    )
    .option('--suite <name>', 'with --debian: the suite', 'trixie')
    .option('--program <name>', 'a program that comes to /usr/bin; may be given several times', collect)
    .option('--version <version>', 'the version to pin; the newest unless said')
    .option('--keep <policy>', "versions to keep: newest, '3 minors', '2 branches'", 'newest')
    .option('--summary <text>', 'one line')
    .option('--license <spdx>', 'SPDX expression')
    .option('--unit <command>', "write a service that runs this and starts with the image; with --debian also the name of a package's own")
    .option('--condition <path>', 'with --unit: start it only where this file exists')
    .option('--sha256 <arch=hash>', 'digest of the file that is known from elsewhere; per architecture, with --proof', parseKeyValue)
    .option('--proof <text>', 'with --sha256: where the digests are from')
    .option('--other-version <reason>', 'why a program says another version than the one that is pinned')
    .option('--no-build', 'do not build it and do not try its programs')
    .option('-y, --yes', 'do not prompt: take what is proposed; what nothing is proposed for is an error that names its option')
    .addOption(mirrorOption())
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
On a terminal it asks for what it cannot find out. It writes extensions/NAME/ as a whole or not at all, its entry in package-lock.json, and its
line in README.md. What was written and pinned stays when it cannot be built: correct it, and go on with flatcar-ext build NAME.

Examples:
  flatcar-ext new k9s --github derailed/k9s
  flatcar-ext new k9s --github derailed/k9s --go github.com/derailed/k9s      also from source
  flatcar-ext new helm --github helm/helm --url https://get.helm.sh/helm-v{version}-linux-{arch}.tar.gz --checksum {url}.sha256
  flatcar-ext new zellij --cargo zellij
  flatcar-ext new node-exporter --go github.com/prometheus/node_exporter --program node_exporter --unit node_exporter
  flatcar-ext new btop --debian btop --summary 'a monitor of resources'
  flatcar-ext new chrony --debian chrony --unit chrony.service      with its users, folders and configuration
  flatcar-ext new site-tools --files ./tree --summary 'the tools of our site'`,
    )
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
      const { planNew, wrongLicense } = await import('@flatcar/workspace/new/plan');
      const { ask, isAttended } = await openAsk(flags.yes, signal);
      const hasOrigin = [flags.github, flags.url, flags.go, flags.cargo, flags.debian, flags.files].some((one) => one !== undefined);
      let given = flags;
      if (!hasOrigin && isAttended) {
        const kind = await ask.choose('Where does it come from?', [
          { value: 'github', label: 'files of GitHub releases' },
          { value: 'url', label: 'files at another URL' },
          { value: 'go', label: 'a Go module' },
          { value: 'cargo', label: 'a Rust crate' },
          { value: 'debian', label: 'packages of Debian' },
          { value: 'files', label: 'files of this repository only' },
        ] as const);
        given = kind === 'files' ? { ...flags, files: true } : { ...flags, [kind]: await askOrigin(kind, ask) };
      }
      const plan = await planNew(await requestOf(name, given), ask, context);
      const askLicense = async (component: string, hint?: string): Promise<string> => {
        done(); // no moving line beside a question
        return ask.text(
          `The licence of ${component}, as SPDX?${hint === undefined ? '' : ` (${hint})`}`,
          '--license',
          undefined,
          wrongLicense,
        );
      };
      tell(await make(plan, given, isAttended ? askLicense : undefined, context, report));
    });
}
