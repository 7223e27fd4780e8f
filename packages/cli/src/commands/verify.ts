import { mkdir, readFile, symlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { parseSums, sidecarPaths, UserError } from '@flatcar/core';
import type { Command } from 'commander';
import { gitCommit } from '../build-context.ts';
import { formatOfFile, knownImage, type KnownImage } from '../image.ts';
import { chooseExtensions } from '../options.ts';
import { reporter, show, table } from '../terminal.ts';

interface Verified {
  readonly image: string;
  readonly check: string;
}

/** The commit that the build record names. */
async function recordedCommit(image: string): Promise<string | undefined> {
  const record = JSON.parse(await readFile(sidecarPaths(image).provenance, 'utf8')) as {
    predicate: { buildDefinition: { resolvedDependencies: { digest: { gitCommit?: string } }[] } };
  };
  return record.predicate.buildDefinition.resolvedDependencies.map(({ digest }) => digest.gitCommit).find((commit) => commit !== undefined);
}

/** Builds the image again with an empty result store and compares the bytes. */
async function rebuild({ file, manifest, target }: KnownImage, signal: AbortSignal): Promise<void> {
  const { buildExtension, hashFile, openStore, openTools } = await import('@flatcar/core');
  const [chosen] = await chooseExtensions([`${manifest.name}@${manifest.version.replace(/-\d+$/, '')}`]);
  if (chosen === undefined) throw new UserError(`there is no extension '${manifest.name}'`);
  const { report, done } = await reporter();
  const store = openStore();
  await store.withTemp(async (temp) => {
    // Downloads and modules are known by their digests and may be shared; results may not.
    const root = join(temp, 'store');
    await mkdir(join(root, 'go'), { recursive: true });
    for (const shared of ['blobs', 'go/mod']) await symlink(join(store.root, shared), join(root, shared));
    const fresh = openStore(root);
    const tools = openTools(fresh, report);
    const origin = manifest.components.some((one) => ['go', 'cargo', 'source'].includes(one.origin)) ? 'source' : 'release';
    const { images } = await buildExtension(chosen.loaded, {
      version: chosen.version,
      arch: manifest.architecture,
      targets: [target],
      profile: manifest.profile,
      origin,
      out: join(temp, 'out'),
      store: fresh,
      tools,
      report,
      signal,
    });
    done();
    const [image] = images;
    if (image === undefined || image.sha256 !== manifest.sha256) {
      const was = await recordedCommit(file);
      const is = await gitCommit();
      throw new UserError(`the rebuilt image has sha256 ${image?.sha256}, this one ${await hashFile(file)}`, {
        where: file,
        next:
          was === is
            ? 'the build is not reproducible: please report it'
            : `this image was built from commit ${was}, and the repository is at ${is}: check out that commit`,
      });
    }
  });
}

/** `verify`: images against their sums, manifests and verity; with --rebuild also against a build from nothing. */
export function addVerify(root: Command, signal: AbortSignal): void {
  root
    .command('verify')
    .description('check images against their sums and manifests, and their own verity hashes')
    .argument('<images...>', '.raw files with their sidecars beside them')
    .option('--rebuild', 'build each again with an empty result store and compare the bytes')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  flatcar-ext verify extensions/kubernetes/dist/*/*.raw\n  flatcar-ext verify --rebuild extensions/kubernetes/dist/portable/*.raw',
    )
    .action(async (files: string[], flags: { rebuild?: boolean; json?: boolean }) => {
      const { hashFile, verifyVerity, readContent } = await import('@flatcar/core');
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
          await rebuild(known, signal);
          verified.push({ image: file, check: 'rebuilt from nothing: the same bytes' });
        }
      }
      show(verified, flags.json, (all) => table([['image', 'checked'], ...all.map(({ image, check }) => [image, check])]));
    });
}
