import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findExtensions, loadDefinition, newestFirst, PLAIN_VERSION, readPins, UsageError, UserError, type Extension } from '@flatcar/core';
import type { PinResult, UpstreamContext } from '@flatcar/upstream';
import type { Command } from 'commander';
import { mirrorOption, pair, REPOSITORY, unknownExtension } from '../options.ts';
import { reporter, show, table } from '../terminal.ts';
import { upstreamContext } from '../upstream.ts';

interface Flags {
  readonly coupled?: Readonly<Record<string, string>>;
  readonly license?: Readonly<Record<string, string>>;
  readonly revision?: boolean;
  readonly check?: boolean;
  readonly base?: string;
  readonly mirror?: string;
  readonly json?: boolean;
}

/** `EXT@1.37.1` is that version; `EXT@1.37` and `EXT` the newest pinned one; an extension without pins gets upstream's newest. */
async function versionOf(extension: Extension, dir: string, word: string | undefined, context: UpstreamContext): Promise<string> {
  const { keptVersions } = await import('@flatcar/upstream');
  const where = join(dir, 'pins.json');
  const text = await readFile(where, 'utf8').catch(() => '{}');
  const pinned = newestFirst(Object.keys(readPins(text, where)));
  const found = word === undefined ? pinned[0] : pinned.find((one) => one === word || one.startsWith(`${word}.`));
  if (found !== undefined) return found;
  if (word !== undefined) {
    if (!PLAIN_VERSION.test(word))
      throw new UsageError(`'${word}' is not a version to pin`, { next: 'write it without v; pre-releases are not shipped' });
    return word;
  }
  const [newest] = await keptVersions(extension.versions, context);
  if (newest === undefined) throw new UserError('upstream lists no version', { where: dir, next: `say one: ${extension.name}@VERSION` });
  return newest;
}

function text({ extension, version, revision, lines, written }: PinResult): string {
  const rows = lines.map(({ component, locator, change, proof }) => [component, change, locator, proof]);
  const head = `${extension} ${version}${revision === 0 ? '' : ` revision ${revision}`}`;
  const files = written.length === 0 ? 'nothing changed' : written.map((file) => `wrote ${file.replace(`${REPOSITORY}/`, '')}`).join('\n');
  return `${head}\n${table([['component', 'pin', 'what', 'checked by'], ...rows])}\n${files}`;
}

async function check(chosen: readonly { dir: string; version?: string | undefined }[], flags: Flags, signal: AbortSignal): Promise<void> {
  const { checkExtensions, checkText, locksAt } = await import('../pin-check.ts');
  const { report, done } = await reporter();
  const before = flags.base === undefined ? undefined : await locksAt(flags.base);
  const checked = await checkExtensions(chosen, before, await upstreamContext(report, signal, flags.mirror));
  done();
  show(checked, flags.json, checkText);
  const wrong = checked.filter(({ state }) => state === 'different');
  if (wrong.length > 0)
    throw new UserError(`${wrong.length} pins are not what upstream has`, {
      where: [...new Set(wrong.map(({ file }) => file.replace(`${REPOSITORY}/`, '')))].join(', '),
      next: 'find out why before you merge them; flatcar-ext pin NAME --revision pins what upstream has now',
    });
}

/** `pin`: downloads, checks, and writes the lock. */
export function addPin(root: Command, signal: AbortSignal): void {
  root
    .command('pin')
    .description('download everything of a version for both architectures, check all that upstream publishes, and write the lock')
    .argument('[extension]', 'NAME, or NAME@VERSION; with --check all extensions unless specified')
    .option('--coupled <name=version>', 'version of a coupled component; may be given several times', pair)
    .option('--license <name=spdx>', 'licence of a component; may be given several times', pair)
    .option('--revision', 'raise the revision: other packaging, bytes or coupled versions under a version that is pinned')
    .option('--check', 'write nothing: derive digests and proofs again from upstream, and compare them with what is pinned')
    .option('--base <ref>', 'with --check: only entries that differ from this commit, such as origin/main')
    .addOption(mirrorOption())
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Nothing is written unless everything is right. A pin whose host cannot be reached stays as it was, with a notice.
GITHUB_TOKEN and GITLAB_TOKEN raise the limits of those hosts.

--check ends with 1 when bytes differ, or when a proof is recorded that upstream
does not give. Pins whose host does not answer are listed, and are no error.

Examples:
  flatcar-ext pin kubernetes@1.37.1
  flatcar-ext pin kubernetes@1.37.1 --coupled cri=1.37.0
  flatcar-ext pin kubernetes@1.36.4 --revision --coupled cni=1.9.2
  flatcar-ext pin --check --base origin/main`,
    )
    .action(async (name: string | undefined, flags: Flags) => {
      if (flags.base !== undefined && flags.check !== true) throw new UsageError('--base belongs to --check', { next: 'add --check' });
      const dirs = await findExtensions(REPOSITORY);
      if (name === undefined) {
        if (flags.check !== true) throw new UsageError('no extension was named', { next: 'name one, or check all with --check' });
        return check(
          dirs.map((dir) => ({ dir })),
          flags,
          signal,
        );
      }
      const [word = '', wanted] = name.split('@');
      const dir = dirs.find((one) => one.split('/').at(-1) === word);
      if (dir === undefined) throw unknownExtension(word, dirs);
      if (flags.check === true) return check([{ dir, version: wanted }], flags, signal);
      const { pinVersion } = await import('@flatcar/upstream');
      const extension = await loadDefinition(dir);
      const { report, done } = await reporter();
      const context = await upstreamContext(report, signal, flags.mirror);
      const version = await versionOf(extension, dir, wanted, context);
      const result = await pinVersion(
        {
          dir,
          extension,
          version,
          ...(flags.coupled === undefined ? {} : { coupled: flags.coupled }),
          ...(flags.license === undefined ? {} : { licenses: flags.license }),
          ...(flags.revision === true ? { revision: true } : {}),
        },
        context,
      );
      done();
      show(result, flags.json, text);
    });
}
