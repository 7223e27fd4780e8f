import { basename, dirname, join } from 'node:path';
import { parseSums, PUBLIC_FILE, sidecarPaths, UsageError, UserError, writeAtomic, type Report } from '@flatcar/core/engine';
import type { PublicKey } from 'openpgp';
import type { Destination } from '../destinations/destination.ts';
import { goodSignatures, keyringOf } from '../keys/openpgp.ts';
import { isSelected, selectedNames, type ImageFilter } from '../tree/image-filter.ts';
import { INDEX, KEYS, payloadPath, SIGNATURE, SUMS, targetFolder } from '../tree/layout.ts';
import { readListed, readRequired } from '../tree/read-listed.ts';
import type { ExtensionIndex, Index, PublishedImage, PublishedVersion } from '../tree/schema.ts';
import { NoTreeError, readPublished, type Published } from '../tree/state.ts';
import { transferFolders } from '../tree/transfer.ts';
import type { Tree } from '../tree/tree.ts';
import { untilNoConflict } from './conflicts.ts';
import { stageSignature } from './next-index.ts';
import { putSignature } from './promote.ts';
import { stageFile } from './stage.ts';

export interface MirrorOptions extends ImageFilter {
  readonly tree: Tree;
  readonly destination: Destination;
  /** Keys, one of which must have signed the tree. */
  readonly keys: readonly PublicKey[];
  /** URL of the mirror, for its transfer files. */
  readonly baseUrl: string;
  /** Replaces a newer index of the mirror. Otherwise refused, because the tree's server could roll nodes back. */
  readonly allowOlder?: boolean;
  readonly report?: Report;
  readonly signal?: AbortSignal;
}

export interface MirrorResult {
  readonly where: string;
  readonly serial: number;
  /** Paths of images, including images that were copied before. */
  readonly images: readonly string[];
  readonly bytes: number;
}

/** Decides, before anything is written, that the destination is a mirror of this tree or may become one, and that it does not go back. */
async function checkDestination({ destination, keys, allowOlder = false }: MirrorOptions, index: Index): Promise<void> {
  const { index: mirrored } = await readPublished(destination, keys, { firstPublish: true });
  if (mirrored === undefined) {
    if ((await destination.isNew()) === false)
      throw new UserError('the folder has other files and no index: it is not a mirror', {
        where: destination.where,
        next: 'name a mirror or an empty folder',
      });
    return;
  }
  if (mirrored.serial > index.serial && !allowOlder)
    throw new UserError(`the mirror has index ${mirrored.serial}, and the tree has the older index ${index.serial}`, {
      where: destination.where,
      next: 'find out why: the tree went back, or its server has an old copy; if the tree was restored on purpose, pass --allow-older',
    });
}

/** Copies a tree whose signed index was read. One attempt: another publisher may cause a ConflictError. */
class MirrorCopy {
  readonly #options: MirrorOptions;
  readonly #published: Published;
  readonly #index: Index;
  readonly #staging: string;
  readonly #images: string[] = [];
  #bytes = 0;

  constructor(options: MirrorOptions, published: Published, index: Index, staging: string) {
    this.#options = options;
    this.#published = published;
    this.#index = index;
    this.#staging = staging;
  }

  /** Copies images before the sums that list them, and the index last, as a publish does. */
  async run(names: readonly string[]): Promise<MirrorResult> {
    const { destination, report } = this.#options;
    await destination.openToOthers(names, report);
    for (const name of names) {
      const extension = await this.#published.extension(name);
      if (extension !== undefined) await this.#copyExtension(extension);
    }
    await this.#copyListed(this.#index.packages);
    await this.#copyKeys();
    const top = await this.#signedPair(INDEX);
    if (!destination.locks) await putSignature(destination, await stageSignature(this.#staging, top));
    await destination.replace('', top);
    return { where: destination.where, serial: this.#index.serial, images: this.#images, bytes: this.#bytes };
  }

  async #copyExtension(extension: ExtensionIndex): Promise<void> {
    const { destination, baseUrl } = this.#options;
    const sums = new Map<string, Map<string, Buffer>>();
    for (const version of extension.versions) {
      if (version.withdrawn !== undefined) continue; // sums do not list it
      for (const image of version.images.filter((one) => isSelected(this.#options, one))) {
        await this.#copyImage(extension.name, version, image);
        const folder = targetFolder(extension.name, image.target);
        if (!sums.has(folder)) sums.set(folder, await this.#signedPair(`${folder}/${SUMS}`));
      }
    }
    for (const [folder, files] of sums) this.#checkSums(extension, folder, files.get(SUMS)?.toString() ?? '');
    for (const [folder, files] of sums) await destination.replace(folder, files);
    for (const [folder, files] of transferFolders(extension, baseUrl)) await destination.replace(folder, files);
    const listed = this.#index.extensions.find(({ name }) => name === extension.name);
    if (listed !== undefined) await this.#copyListed(listed);
  }

  async #copyImage(name: string, { payloads }: PublishedVersion, image: PublishedImage): Promise<void> {
    const { tree, destination, report, signal } = this.#options;
    signal?.throwIfAborted();
    report?.({ type: 'step', text: `copying ${image.path}` });
    // Into the staging folder first: a hard link to a file of another tree would change with that file.
    const staged = await stageFile(this.#staging, await tree.file(image.path, image), image.sha256);
    const { manifest, sbom, provenance } = sidecarPaths(image.path);
    await this.#copyListed({ path: manifest, sha256: image.manifest });
    await this.#copyListed({ path: sbom, sha256: image.sbom });
    await this.#copyListed({ path: provenance, sha256: image.provenance });
    const payload = payloads[`${image.architecture} ${image.format}`];
    if (payload !== undefined) await this.#copyListed({ path: payloadPath(name, payload.key), sha256: payload.record });
    for (const delta of image.deltas ?? [])
      await destination.put(delta.path, await stageFile(this.#staging, await tree.file(delta.path, delta), delta.sha256), delta);
    await destination.put(image.path, staged, image);
    this.#images.push(image.path);
    this.#bytes += image.size;
  }

  /** Copies a small file that the index lists. */
  async #copyListed({ path, sha256 }: { readonly path: string; readonly sha256: string }): Promise<void> {
    const { tree, destination } = this.#options;
    const bytes = await readListed(tree, path, sha256);
    const file = join(this.#staging, sha256);
    await writeAtomic(file, bytes, PUBLIC_FILE);
    await destination.putOver(path, file, { size: bytes.length, sha256 });
  }

  /** A file with its signature, checked. */
  async #signedPair(path: string): Promise<Map<string, Buffer>> {
    const { tree, keys } = this.#options;
    const bytes = await readRequired(tree, path);
    const signature = await readRequired(tree, `${path}${SIGNATURE}`);
    if ((await goodSignatures(bytes, signature, keys)).size === 0)
      throw new UserError('the file has no good signature by a known key', {
        where: `${tree.where}/${path}`,
        next: 'while the tree is being published, try again',
      });
    const name = basename(path);
    return new Map([
      [name, bytes],
      [`${name}${SIGNATURE}`, signature],
    ]);
  }

  /** Refuses sums that contradict the index: both are signed, and one of them may be old. */
  #checkSums({ name, versions }: ExtensionIndex, folder: string, text: string): void {
    const { tree } = this.#options;
    const sums = parseSums(text, `${tree.where}/${folder}/${SUMS}`);
    const images = versions.flatMap((version) => (version.withdrawn === undefined ? version.images : []));
    for (const { target, path, sha256 } of images)
      if (targetFolder(name, target) === folder && sums.get(basename(path)) !== sha256)
        throw new UserError('sums and index do not agree', {
          where: `${tree.where}/${folder}`,
          next: 'try again, the tree may be changing',
        });
  }

  /** Copies public keys. The keyring is the one that was given: the tree's server could add a key to its own, and nodes would trust it. */
  async #copyKeys(): Promise<void> {
    const { tree, destination, keys, report } = this.#options;
    const files = new Map<string, Buffer>([[basename(KEYS.keyring), keyringOf(keys)]]);
    if (this.#index.keys === undefined)
      report?.({
        type: 'notice',
        text: `${KEYS.certificate} and ${KEYS.update} are not copied: this index does not list them; the next publish lists them`,
      });
    for (const { path, sha256 } of this.#index.keys ?? []) files.set(basename(path), await readListed(tree, path, sha256));
    await destination.replace(dirname(KEYS.keyring), files);
  }
}

/**
 * Copies selected parts of a published tree, for places without a network. Everything is checked: the index by its signature, sums by theirs,
 * and all other files by the digests in the index. Sums, index and signatures stay the publisher's: a mirror has no key. Only transfer files
 * are written again, because they contain the URL.
 */
export async function mirror(options: MirrorOptions): Promise<MirrorResult> {
  const { tree, destination, keys, baseUrl } = options;
  const published = await readPublished(tree, keys);
  const { index } = published;
  if (index === undefined) throw new NoTreeError(tree);
  if (!/^https?:\/\/[^/\s?#]+[^\s?#]*$/.test(baseUrl))
    throw new UsageError(`'${baseUrl}' is not a valid http(s) URL`, {
      where: '--base-url',
      next: 'pass the URL from which nodes fetch the mirror',
    });
  await checkDestination(options, index);
  const names = selectedNames(options, index, tree.where);
  return untilNoConflict(() => destination.publish((staging) => new MirrorCopy(options, published, index, staging).run(names)), options);
}
