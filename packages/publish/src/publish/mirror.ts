import { basename } from 'node:path';
import { parseSums, PUBLIC_FILE, sidecarPaths, UsageError, UserError, writeAtomic, type Arch, type Report } from '@flatcar/core/engine';
import type { PublicKey } from 'openpgp';
import { untilNoConflict } from './conflicts.ts';
import type { Destination } from '../destinations/destination.ts';
import { INDEX, KEYS, payloadPath, SIGNATURE, SUMS, targetFolder } from '../tree/layout.ts';
import { goodSignatures, keyringOf } from '../keys/openpgp.ts';
import { stageSignature } from './next-index.ts';
import { putSignature } from './promote.ts';
import type { Index } from '../tree/schema.ts';
import { stageFile } from './stage.ts';
import { NoTreeError, readPublished, sha256Of } from '../tree/state.ts';
import { transferFiles } from '../tree/transfer.ts';
import type { Tree } from '../tree/tree.ts';

export interface MirrorOptions {
  readonly tree: Tree;
  readonly destination: Destination;
  /** Whose signature the tree must have. */
  readonly keys: readonly PublicKey[];
  /** URL of the mirror, for its transfer files. */
  readonly baseUrl: string;
  /** Replaces a newer index of the mirror: without it, whoever serves the tree could roll nodes back. */
  readonly allowOlder?: boolean;
  /** Names; all unless said. */
  readonly extensions?: readonly string[];
  /** `portable` and release numbers; all unless said. */
  readonly targets?: readonly string[];
  readonly arches?: readonly Arch[];
  readonly report?: Report;
  readonly signal?: AbortSignal;
}

export interface MirrorResult {
  readonly where: string;
  readonly serial: number;
  /** Paths of images; those that were there before are among them. */
  readonly images: readonly string[];
  readonly bytes: number;
}

/** Decides, before anything is made, that the place is a mirror of this tree, or may become one, and that it does not go back. */
async function checkDestination({ destination, keys, allowOlder = false }: MirrorOptions, index: Index): Promise<void> {
  const { index: there } = await readPublished(destination, keys, { firstPublish: true });
  if (there === undefined) {
    if (destination.isNew !== undefined && !(await destination.isNew()))
      throw new UserError('the folder has other files, and no index: it is not a mirror', {
        where: destination.where,
        next: 'name a mirror, or an empty folder',
      });
    return;
  }
  if (there.serial > index.serial && !allowOlder)
    throw new UserError(`the mirror has index ${there.serial}, and the tree has ${index.serial}: it went back, or an old copy is served`, {
      where: destination.where,
      next: 'look into why; if the tree was restored on purpose, pass --allow-older',
    });
}

/**
 * Copies chosen parts of a published tree, for places without a network. Everything is checked on the way: the index by its signature,
 * everything else by the digests in it, and sums by theirs. Sums, index and signatures are the publisher's own: a mirror has no key. Only
 * transfer files are written anew, because the URL stands in them. Images come before sums, the index last, as in a publish.
 */
export async function mirror(options: MirrorOptions): Promise<MirrorResult> {
  const { tree, destination, keys, baseUrl, report = () => undefined, signal } = options;
  const published = await readPublished(tree, keys);
  const { index } = published;
  if (index === undefined) throw new NoTreeError(tree);
  if (!/^https?:\/\/[^/\s?#]+[^\s?#]*$/.test(baseUrl))
    throw new UsageError(`'${baseUrl}' is not a valid http(s) URL`, {
      where: '--base-url',
      next: 'pass the URL under which nodes see the mirror',
    });
  await checkDestination(options, index);
  const names = options.extensions ?? index.extensions.map(({ name }) => name);
  const unknown = names.find((name) => !index.extensions.some((one) => one.name === name));
  if (unknown !== undefined)
    throw new UserError(`'${unknown}' is not published here`, {
      where: tree.where,
      next: `there are: ${index.extensions.map(({ name }) => name).join(', ')}`,
    });

  const needed = async (path: string): Promise<Buffer> => {
    const bytes = await tree.read(path);
    if (bytes === undefined) throw new UserError('the tree lacks a file that belongs to it', { where: `${tree.where}/${path}` });
    return bytes;
  };
  /** A file with its signature, checked. */
  const signedPair = async (path: string): Promise<Map<string, Buffer>> => {
    const [bytes, signature] = [await needed(path), await needed(`${path}${SIGNATURE}`)];
    if ((await goodSignatures(bytes, signature, keys)).size === 0)
      throw new UserError('the file has no good signature by a known key', {
        where: `${tree.where}/${path}`,
        next: 'while the tree is being published, try again',
      });
    return new Map([[basename(path), bytes], [`${basename(path)}${SIGNATURE}`, signature]]); // prettier-ignore
  };

  const copy = async (staging: string): Promise<MirrorResult> => {
    await destination.openToOthers?.(names, report);
    const copied: string[] = [];
    let total = 0;
    const listedBytes = async (path: string, sha256: string): Promise<Buffer> => {
      const bytes = await needed(path);
      if (sha256Of(bytes) !== sha256)
        throw new UserError('the file is not the one that the signed index lists', {
          where: `${tree.where}/${path}`,
          next: 'try again, the tree may just be changing; if it stays so, do not trust this server',
        });
      return bytes;
    };
    const stage = async (path: string, sha256: string): Promise<void> => {
      const bytes = await listedBytes(path, sha256);
      const file = `${staging}/${sha256}`;
      await writeAtomic(file, bytes, PUBLIC_FILE);
      await destination.putOver(path, file, { size: bytes.length, sha256 });
    };
    const sums = new Map<string, Map<string, Buffer>>();
    for (const name of names) {
      const extension = await published.extension(name);
      if (extension === undefined) continue;
      for (const { images, payloads, withdrawn } of extension.versions) {
        if (withdrawn !== undefined) continue; // no sums list them
        const chosen = images.filter(
          ({ target, architecture }) =>
            (options.targets === undefined || options.targets.includes(target)) &&
            (options.arches === undefined || options.arches.includes(architecture)),
        );
        for (const image of chosen) {
          signal?.throwIfAborted();
          report({ type: 'step', text: `copying ${image.path}` });
          // Into the staging folder first: a link to a file of another tree would share its fate.
          const staged = await stageFile(staging, await tree.file(image.path, image), image.sha256);
          const sidecars = sidecarPaths(image.path);
          for (const [path, sha256] of [[sidecars.manifest, image.manifest], [sidecars.sbom, image.sbom], [sidecars.provenance, image.provenance]] as const) await stage(path, sha256); // prettier-ignore
          const payload = payloads[`${image.architecture} ${image.format}`];
          if (payload !== undefined) await stage(payloadPath(name, payload.key), payload.record);
          await destination.put(image.path, staged, image);
          copied.push(image.path);
          total += image.size;
          const folder = targetFolder(name, image.target);
          if (!sums.has(folder)) sums.set(folder, await signedPair(`${folder}/${SUMS}`));
        }
      }
      // Sums that say otherwise than the index are not taken: both are signed, one of them may be old.
      for (const [folder, files] of sums) {
        const listed = parseSums(files.get(SUMS)?.toString() ?? '', `${tree.where}/${folder}/${SUMS}`);
        for (const { images, withdrawn } of extension.versions)
          for (const image of images)
            if (withdrawn === undefined && targetFolder(name, image.target) === folder && listed.get(basename(image.path)) !== image.sha256)
              throw new UserError('sums and index do not agree', {
                where: `${tree.where}/${folder}`,
                next: 'try again, the tree may just be changing',
              });
      }
      for (const [folder, files] of sums) await destination.replace(folder, files);
      sums.clear();
      const folders = Map.groupBy(transferFiles(extension, baseUrl), ([path]) => path.replace(/\/[^/]+$/, ''));
      for (const [folder, files] of folders)
        await destination.replace(folder, new Map(files.map(([path, bytes]) => [basename(path), bytes])));
      const listed = index.extensions.find((one) => one.name === name);
      if (listed !== undefined) await stage(listed.path, listed.sha256);
    }
    await stage(index.packages.path, index.packages.sha256);
    // The keyring that was given, not the one of the tree: whoever serves that could add a key, and nodes of the mirror would take it.
    const keyFiles = new Map<string, Buffer>([[basename(KEYS.keyring), keyringOf(keys)]]);
    if (index.keys === undefined)
      report({
        type: 'notice',
        text: `${KEYS.certificate} and ${KEYS.update} are not copied: this index does not list them; any publish by a newer flatcar-ext does`,
      });
    for (const { path, sha256 } of index.keys ?? []) keyFiles.set(basename(path), await listedBytes(path, sha256));
    await destination.replace('keys', keyFiles);
    const top = await signedPair(INDEX);
    if (!destination.locks) await putSignature(destination, await stageSignature(staging, top));
    await destination.replace('', top);
    return { where: destination.where, serial: index.serial, images: copied, bytes: total };
  };
  return untilNoConflict(() => destination.publish(copy), options);
}
