import { checkText } from '../output/pin-check-text.ts';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  findExtensions,
  loadDefinition,
  loadExtension,
  matchingVersions,
  newestFirst,
  parseRef,
  PLAIN_VERSION,
  readPins,
  UsageError,
  UserError,
  type Extension,
} from '@flatcar/core/engine';
import type { UpstreamContext } from '@flatcar/upstream';
import { Option, type Command } from 'commander';
import { addHelp } from '../help.ts';
import { REPOSITORY, unknownExtension } from '@flatcar/workspace/select';
import { jsonOption, mirrorOption, parseKeyValue } from '../options.ts';
import { packagingError, packagingProblems } from '@flatcar/workspace/packaging-check';
import { pinExtension, today, type Pinned } from '@flatcar/workspace/pin-extension';
import { keyringOption, keysOption, trustedKeys } from '../published.ts';
import { reporter, show, table } from '../output/terminal.ts';
import { openUpstream } from '@flatcar/workspace/open-upstream';

interface Flags {
  readonly coupled?: Readonly<Record<string, string>>;
  readonly license?: Readonly<Record<string, string>>;
  readonly revision?: boolean;
  readonly check?: boolean;
  readonly base?: string;
  readonly tree?: string;
  readonly keys?: string;
  readonly keyring?: string;
  readonly mirror?: string;
  readonly json?: boolean;
}

/** `EXT@1.37.1` is that version; `EXT@1.37` and `EXT` the newest pinned one; an extension without pins gets upstream's newest, or today. */
async function versionOf(extension: Extension, dir: string, word: string | undefined, context: UpstreamContext): Promise<string> {
  const { keptVersions } = await import('@flatcar/upstream');
  const where = join(dir, 'pins.json');
  const text = await readFile(where, 'utf8').catch(() => '{}');
  const pinned = newestFirst(Object.keys(readPins(text, where)));
  const [found] = matchingVersions(pinned, word);
  if (found !== undefined) return found;
  if (word !== undefined) {
    if (!PLAIN_VERSION.test(word))
      throw new UsageError(`'${word}' is not a version to pin`, { next: 'write it without v; pre-releases are not shipped' });
    return word;
  }
  if (extension.versions.kind === 'date') return today();
  const [newest] = await keptVersions(extension.versions, context);
  if (newest === undefined) throw new UserError('upstream lists no version', { where: dir, next: `say one: ${extension.name}@VERSION` });
  return newest;
}

function text({ extension, version, revision, lines, written, note }: Pinned): string {
  const rows = lines.map(({ component, locator, change, proof }) => [component, change, locator, proof]);
  const head = `${extension} ${version}${revision === 0 ? '' : ` revision ${revision}`}`;
  const files = written.length === 0 ? 'nothing changed' : written.map((file) => `wrote ${file.replace(`${REPOSITORY}/`, '')}`).join('\n');
  const notes = note === undefined ? '' : `\n${note}`;
  return `${head}\n${table([['component', 'pin', 'what', 'checked by'], ...rows])}\n${files}${notes}`;
}

/** The highest published revision of each upstream version. */
async function publishedRevisions(where: string, name: string, flags: Flags): Promise<Map<string, number>> {
  const { openStore } = await import('@flatcar/core/engine');
  const { openTree, readPublished } = await import('@flatcar/publish');
  const published = await readPublished(openTree(where, openStore(), { flag: '--tree' }), await trustedKeys(flags));
  const versions = (await published.extension(name))?.versions ?? [];
  return new Map(versions.toSorted((a, b) => a.revision - b.revision).map(({ upstream, revision }) => [upstream, revision]));
}

async function check(chosen: readonly { dir: string; version?: string | undefined }[], flags: Flags, signal: AbortSignal): Promise<void> {
  const { checkExtensions, locksAt } = await import('@flatcar/workspace/pin-check');
  const { report, done } = await reporter();
  const before = flags.base === undefined ? undefined : await locksAt(flags.base);
  const checked = await checkExtensions(chosen, before, openUpstream(report, signal, flags.mirror));
  done();
  show(checked, flags.json, checkText);
  const wrong = checked.filter(({ state }) => state === 'different');
  const changed = await Promise.all(
    chosen.map(async ({ dir, version }) => {
      const problems = await packagingProblems(await loadExtension(dir), before && (before.get(join(dir, 'pins.json')) ?? {}));
      return problems.filter((one) => version === undefined || one.version === version || one.version.startsWith(`${version}.`));
    }),
  );
  const error = packagingError(changed.flat());
  if (wrong.length === 0 && error !== undefined) throw error;
  if (wrong.length > 0)
    throw new UserError(`${wrong.length} pins are not what upstream has`, {
      where: [...new Set(wrong.map(({ file }) => file.replace(`${REPOSITORY}/`, '')))].join(', '),
      next: 'find out why before you merge them; flatcar-ext pin NAME --revision pins what upstream has now',
    });
}

/** `pin`: downloads, checks, and writes the lock. */
export function addPin(root: Command, signal: AbortSignal): void {
  const command = root
    .command('pin')
    .summary('pin a version: download, verify and write the lock')
    .description('pin a version: download it for both architectures, verify it, and write the lock')
    .argument('[extension]', 'NAME or NAME@VERSION (default with --check: all)')
    .option('--coupled <name=version>', 'version of a coupled component; repeatable', parseKeyValue)
    .option('--license <name=spdx>', 'license of a component; repeatable', parseKeyValue)
    .option('--revision', 'pin a revision of a released version: with other files, pins or coupled versions')
    .option('--check', 'write nothing: get digests and proofs from upstream again, and compare them with the lock')
    .addOption(
      new Option(
        '--base <ref>',
        'commit whose lock lists what is released; with --check, only pins that differ from it are checked',
      ).default(undefined, 'origin/main'),
    )
    .option('--tree <where>', 'published tree that lists what is released: a folder, https://… or s3://bucket/prefix')
    .addOption(keysOption())
    .addOption(keyringOption())
    .addOption(mirrorOption())
    .addOption(jsonOption())
    .action(async (name: string | undefined, flags: Flags) => {
      const dirs = await findExtensions(REPOSITORY);
      if (name === undefined) {
        if (flags.check !== true) throw new UsageError('no extension was named', { next: 'name one, or check all with --check' });
        return check(
          dirs.map((dir) => ({ dir })),
          flags,
          signal,
        );
      }
      const { name: word, version: wanted } = parseRef(name);
      const dir = dirs.find((one) => one.split('/').at(-1) === word);
      if (dir === undefined) throw unknownExtension(word, dirs);
      if (flags.check === true) return check([{ dir, version: wanted }], flags, signal);
      const extension = await loadDefinition(dir);
      const { report, done } = await reporter();
      const context = openUpstream(report, signal, flags.mirror);
      const request = {
        dir,
        extension,
        version: await versionOf(extension, dir, wanted, context),
        coupled: flags.coupled,
        licenses: flags.license,
      };
      const published = flags.tree === undefined ? undefined : await publishedRevisions(flags.tree, extension.name, flags);
      const options = { request, revision: flags.revision === true, base: flags.base, published, repository: REPOSITORY };
      const result = await pinExtension(options, context);
      done();
      show(result, flags.json, text);
    });
  addHelp(command, {
    text: [
      'Writes pins.json, the READMEs and, with --revision, an entry in CHANGELOG.md; nothing is written unless everything is verified. A pin whose host cannot be reached keeps its old value, with a notice.',
      'pins.json has a digest of what decides the bytes of each version: pinned digests, files/, build scripts, lock modules and the definition. Without --revision the digest of a version that is not released is renewed, and a released version that was changed is refused. --revision counts from --base and --tree, so that a second run changes nothing; in a checkout without origin/main it counts from the last commit.',
      '--check exits with 1 if bytes differ, if upstream does not give a recorded proof, or if a version was changed under the revision that it has in --base. Pins whose host cannot be reached are listed, and are not an error.',
    ],
    environment: {
      GITHUB_TOKEN: 'raises the rate limit of GitHub',
      GITLAB_TOKEN: 'raises the rate limit of GITLAB_HOST (default: gitlab.com)',
    },
    examples: [
      'flatcar-ext pin kubernetes@1.37.1',
      'flatcar-ext pin kubernetes@1.37.1 --coupled cri=1.37.0',
      'flatcar-ext pin kubernetes@1.36.4 --revision --coupled cni=1.9.2',
      'flatcar-ext pin node-exporter --revision',
      'flatcar-ext pin --check --base origin/main',
    ],
  });
}
