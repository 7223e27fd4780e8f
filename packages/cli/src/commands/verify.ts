import { readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { parseSums, UserError } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { gitCommit } from '@flatcar/workspace/build-context';
import { formatOfFile, knownImage, type KnownImage } from '@flatcar/workspace/image-file';
import { loadNamed } from '@flatcar/workspace/select';
import { sandboxOption } from '../options.ts';
import { reporter, show, table } from '../output/terminal.ts';

interface Verified {
  readonly image: string;
  readonly check: string;
}

/** Builds an image again from the checkout's own definition. */
async function rebuild(known: KnownImage, noSandbox: boolean, signal: AbortSignal): Promise<string> {
  const { openStore } = await import('@flatcar/core/engine');
  const { rebuildImage } = await import('@flatcar/workspace/rebuild');
  const { report, done } = await reporter();
  const loaded = await loadNamed(known.manifest.name);
  const check = await rebuildImage(known, { loaded, commit: await gitCommit(), store: openStore(), report, noSandbox, signal });
  done();
  return check;
}

/** `verify`: images against their sums, manifests and verity; with --rebuild also against a build from nothing. */
export function addVerify(root: Command, signal: AbortSignal): void {
  root
    .command('verify')
    .description('check images against their sums and manifests, and their own verity hashes')
    .argument('<images...>', '.raw files with their sidecars beside them')
    .option('--rebuild', 'build each again with an empty result store, by the origins that its manifest names, and compare the bytes')
    .addOption(sandboxOption())
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  flatcar-ext verify extensions/kubernetes/dist/*/*.raw\n  flatcar-ext verify --rebuild extensions/kubernetes/dist/portable/*.raw',
    )
    .action(async (files: string[], flags: { rebuild?: boolean; sandbox: boolean; json?: boolean }) => {
      const { hashFile, verifyVerity, readContent } = await import('@flatcar/core/engine');
      const { localPath } = await import('@flatcar/publish');
      const verified: Verified[] = [];
      for (const word of files) {
        const file = localPath(word, 'verify');
        const known = await knownImage(file);
        const sums = join(dirname(file), 'SHA256SUMS');
        const listed = parseSums(await readFile(sums, 'utf8').catch(() => ''), sums).get(basename(file));
        const sha256 = await hashFile(file);
        if (listed !== sha256)
          throw new UserError(
            listed === undefined ? 'the image is not in SHA256SUMS' : `SHA256SUMS says ${listed}, the image has ${sha256}`,
            { where: file, next: 'fetch or build the image again' },
          );
        if (known.manifest.sha256 !== sha256) throw new UserError('the manifest is for another image', { where: file });
        const format = await formatOfFile(file);
        await readContent(file, format, known.manifest.architecture);
        verified.push({ image: file, check: 'sums, manifest, metadata' });
        if (format === 'ddi') {
          const roothash = await verifyVerity(file, known.manifest.architecture);
          if (roothash !== known.manifest.roothash)
            throw new UserError(`the roothash is ${roothash}, the manifest says ${known.manifest.roothash}`, { where: file });
          verified.push({ image: file, check: 'verity roothash' });
        }
        if (flags.rebuild === true) {
          verified.push({ image: file, check: await rebuild(known, !flags.sandbox, signal) });
        }
      }
      show(verified, flags.json, (all) => table([['image', 'checked'], ...all.map(({ image, check }) => [image, check])]));
    });
}
