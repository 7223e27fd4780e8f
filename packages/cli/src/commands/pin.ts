import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findExtensions, loadDefinition, newestFirst, PLAIN_VERSION, readPins, UserError, type Extension } from '@flatcar/core';
import type { PinResult, UpstreamContext } from '@flatcar/upstream';
import type { Command } from 'commander';
import { mirrorOption, pair, REPOSITORY } from '../options.ts';
import { reporter, show, table } from '../terminal.ts';
import { upstreamContext } from '../upstream.ts';

interface Flags {
  readonly coupled?: Readonly<Record<string, string>>;
  readonly license?: Readonly<Record<string, string>>;
  readonly revision?: boolean;
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
      throw new UserError(`'${word}' is no version to pin`, { next: 'write it without v; pre-releases are not shipped' });
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

/** `pin`: downloads, checks, and writes the lock. */
export function addPin(root: Command, signal: AbortSignal): void {
  root
    .command('pin')
    .description('download everything of a version for both architectures, check all that upstream publishes, and write the lock')
    .argument('<extension>', 'NAME, or NAME@VERSION')
    .option('--coupled <name=version>', 'version of a coupled component; may be given several times', pair)
    .option('--license <name=spdx>', 'licence of a component; may be given several times', pair)
    .option('--revision', 'raise the revision: other packaging, bytes or coupled versions under a version that is pinned')
    .addOption(mirrorOption())
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Nothing is written unless everything is right. A pin whose host cannot be reached stays as it was, with a notice.
GITHUB_TOKEN and GITLAB_TOKEN raise the limits of those hosts.

Examples:
  flatcar-ext pin kubernetes@1.37.1
  flatcar-ext pin kubernetes@1.37.1 --coupled cri=1.37.0
  flatcar-ext pin kubernetes@1.36.4 --revision --coupled cni=1.9.2`,
    )
    .action(async (name: string, flags: Flags) => {
      const [word = '', wanted] = name.split('@');
      const dirs = await findExtensions(REPOSITORY);
      const dir = dirs.find((one) => one.split('/').at(-1) === word);
      if (dir === undefined)
        throw new UserError(`there is no extension '${word}'`, {
          where: REPOSITORY,
          next: `there are: ${dirs.map((one) => one.split('/').at(-1)).join(', ')}`,
        });
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
