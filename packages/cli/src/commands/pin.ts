import { checkText } from '../output/pin-check-text.ts';
import { loadDefinition, parseRef, UsageError } from '@flatcar/core/engine';
import { Option, type Command } from 'commander';
import { findDir, findDirs, REPOSITORY } from '@flatcar/workspace/select';
import { mirrorOption, parseKeyValue, jsonOption } from '../options.ts';
import type { Pinned } from '@flatcar/workspace/pin-extension';
import { firstUseOption, keysOption, rootOption } from '../published.ts';
import { treeTrust } from '@flatcar/workspace/given-keys';
import { addHelp } from '../help.ts';
import { reporter } from '../output/reporter.ts';
import { show, table } from '../output/terminal.ts';
import { openUpstream } from '@flatcar/workspace/open-upstream';

interface Flags {
  readonly coupled?: Readonly<Record<string, string>>;
  readonly license?: Readonly<Record<string, string>>;
  readonly revision?: boolean;
  readonly check?: boolean;
  readonly base?: string;
  readonly tree?: string;
  readonly keys?: string;
  readonly root?: string;
  readonly trustFirstUse?: boolean;
  readonly mirror?: string;
  readonly json?: boolean;
}

function text({ extension, version, revision, lines, written, note }: Pinned): string {
  const rows = lines.map(({ component, locator, change, proof }) => [component, change, locator, proof]);
  const head = `${extension} ${version}${revision === 0 ? '' : ` revision ${revision}`}`;
  const files = written.length === 0 ? 'nothing changed' : written.map((file) => `wrote ${file.replace(`${REPOSITORY}/`, '')}`).join('\n');
  const notes = note === undefined ? '' : `\n${note}`;
  return `${head}\n${table([['component', 'pin', 'what', 'checked by'], ...rows])}\n${files}${notes}`;
}

/** Checks pins and prints the result. Throws a UserError for pins that differ from upstream, or versions that were changed. */
async function check(chosen: readonly { dir: string; version?: string }[], flags: Flags, signal: AbortSignal): Promise<void> {
  const { checkExtensions, pinErrors } = await import('@flatcar/workspace/pin-check');
  const { report, done } = await reporter();
  const result = await checkExtensions(chosen, flags.base, openUpstream(report, signal, flags.mirror)).finally(done);
  show(result.checked, flags.json, checkText);
  const error = pinErrors(result);
  if (error !== undefined) throw error;
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
    .addOption(rootOption())
    .addOption(firstUseOption())
    .addOption(mirrorOption())
    .addOption(jsonOption())
    .action(async (name: string | undefined, flags: Flags) => {
      if (name === undefined) {
        if (flags.check !== true) throw new UsageError('no extension was named', { next: 'name one, or check all with --check' });
        return check(
          (await findDirs()).map((dir) => ({ dir })),
          flags,
          signal,
        );
      }
      const { name: word, version: wanted } = parseRef(name);
      const dir = await findDir(word);
      if (flags.check === true) return check([{ dir, version: wanted }], flags, signal);
      const { pinExtension, treeRevisions, versionToPin } = await import('@flatcar/workspace/pin-extension');
      const extension = await loadDefinition(dir);
      const { report, done } = await reporter();
      const context = openUpstream(report, signal, flags.mirror);
      const pin = async (): Promise<Pinned> => {
        const version = await versionToPin(extension, dir, wanted, context);
        const request = { dir, extension, version, coupled: flags.coupled, licenses: flags.license };
        const published = flags.tree === undefined ? undefined : await treeRevisions(flags.tree, extension.name, await treeTrust(flags));
        return pinExtension({ request, revision: flags.revision === true, base: flags.base, published, repository: REPOSITORY }, context);
      };
      show(await pin().finally(done), flags.json, text);
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
