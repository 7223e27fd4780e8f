import { basename, dirname, join } from 'node:path';
import { parseSums, PUBLIC_FILE, sidecarPaths, UsageError, UserError, writeAtomic, type Report } from '@flatcar/core/engine';
import { MetadataKind } from '@tufjs/models';
import type { PublicKey } from 'openpgp';
import { deltaPaths } from '../deltas/listed.ts';
import type { Destination } from '../destinations/destination.ts';
import { goodSignatures, readKeyring } from '../keys/openpgp.ts';
import { copiedTree, noMemory, rememberedTree } from '../tree/memory.ts';
import { metadataBytes } from '../metadata/metadata.ts';
import { isSelected, selectedNames, type ImageFilter } from '../tree/image-filter.ts';
import { KEYS, METADATA, payloadPath, rootPath, SIGNATURE, SUMS, targetFolder } from '../tree/layout.ts';
import { readListed, readRequired } from '../tree/read-listed.ts';
import type { ExtensionIndex, Index, PublishedImage, PublishedVersion } from '../tree/schema.ts';
import { NoTreeError, readPublished, type Published } from '../tree/state.ts';
import { extensionFeed, FEED } from '../tree/reader-files.ts';
import { transferFolders } from '../tree/transfer.ts';
import type { Source, Tree } from '../tree/tree.ts';
import type { Trust } from '../tree/trusted.ts';
import { untilNoConflict } from './conflicts.ts';
import { metadataFiles, withSidecars } from './next-index.ts';
import { rootFiles } from './root-files.ts';
import { stageBytes, stageFile } from './stage.ts';

export interface MirrorOptions extends ImageFilter {
  readonly tree: Tree;
  readonly destination: Destination;
  /** Root of trust of the tree, which the copy has, too. What was seen before is what the copy has. */
  readonly trust: Pick<Trust, 'root' | 'firstUse'>;
  /** URL of the mirror, for its transfer files. */
  readonly baseUrl: string;
  /** Replaces a newer state of the mirror. Otherwise refused, because the tree's server could roll nodes back. */
  readonly allowOlder?: boolean;
  /** The catalogue page (HTML) for the mirror. Without it, a page that the mirror has stays. */
  readonly page?: Buffer;
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

/** What the destination has of the tree, before anything is written; undefined if it may become a mirror. Throws if it is something else. */
async function readCopy({ tree, destination }: MirrorOptions): Promise<Published | undefined> {
  // The copy belongs to whoever runs this: its own first root identifies it.
  const copy = await readPublished(destination, { firstUse: true, memory: noMemory, expired: true }, { firstPublish: true });
  if (copy.metadata === undefined) {
    if ((await destination.isNew()) === false)
      throw new UserError('the folder has other files and no index: it is not a mirror', {
        where: destination.where,
        next: 'name a mirror or an empty folder',
      });
    return undefined;
  }
  const path = rootPath(copy.metadata.root.signed.version);
  if ((await tree.read(path))?.equals((await destination.read(path)) ?? Buffer.alloc(0)) !== true)
    throw new UserError('this is a mirror of another tree: the two have different roots of trust', {
      where: destination.where,
      next: 'name another folder',
      code: 'bad-signature',
    });
  return copy;
}

/** Copies a tree whose metadata was verified. One attempt: another publisher may cause a ConflictError. */
class MirrorCopy {
  readonly #options: MirrorOptions;
  readonly #published: Published;
  readonly #index: Index;
  readonly #staging: string;
  readonly #images: string[] = [];
  /** The publisher's keys, which sign sums. */
  #keyring: readonly PublicKey[] = [];
  #bytes = 0;

  constructor(options: MirrorOptions, published: Published, index: Index, staging: string) {
    this.#options = options;
    this.#published = published;
    this.#index = index;
    this.#staging = staging;
  }

  /** Copies images before the sums that list them, and the timestamp last, as a publish does. */
  async run(names: readonly string[], copy: Published | undefined): Promise<MirrorResult> {
    const { destination, report } = this.#options;
    await destination.openToOthers(names, report);
    const keys = await this.#readKeys();
    for (const name of names) {
      const extension = await this.#published.extension(name);
      if (extension !== undefined) await this.#copyExtension(extension);
    }
    await this.#copyPackages(names);
    await this.#copyListed(this.#index.packages);
    await destination.replace(dirname(KEYS.keyring), keys);
    await this.#copyMetadata();
    if (copy !== undefined) await destination.remove(await this.#departed(copy));
    return { where: destination.where, serial: this.#index.serial, images: this.#images, bytes: this.#bytes };
  }

  /** Copies the metadata: what the timestamp refers to, the timestamp, and the roots. */
  async #copyMetadata(): Promise<void> {
    const { tree, destination } = this.#options;
    const { metadata } = this.#published;
    if (metadata === undefined) return;
    const { root } = metadata;
    const put = async (path: string, bytes: Buffer): Promise<void> => {
      const file = await stageBytes(this.#staging, path, bytes);
      await destination.putOver(file.path, file.from, file);
    };
    for (const path of metadataFiles(metadata)) await put(path, await readRequired(tree, path));
    await destination.flush();
    await destination.replace('', await rootFiles(destination, this.#index, this.#options.page));
    const name = `${MetadataKind.Timestamp}.json`;
    // The timestamp that was verified: the tree may have a newer one already.
    await destination.replace(METADATA, new Map([[name, metadataBytes(metadata.timestamp)]]));
    for (let version = root.signed.version; version > 0; version -= 1) {
      const bytes = await tree.read(rootPath(version));
      if (bytes === undefined) break;
      await put(rootPath(version), bytes);
    }
    await destination.flush();
  }

  async #copyExtension(extension: ExtensionIndex): Promise<void> {
    const { destination, baseUrl } = this.#options;
    const sums = new Map<string, Map<string, Buffer>>();
    for (const version of extension.versions) {
      if (version.withdrawn !== undefined) continue; // sums do not list it
      for (const image of version.images.filter((one) => isSelected(this.#options, one))) {
        await this.#copyImage(extension.name, version, image);
        const folder = targetFolder(extension.name, image.target);
        if (!sums.has(folder)) sums.set(folder, await this.#signedSums(folder));
      }
    }
    for (const [folder, files] of sums) this.#checkSums(extension, folder, files.get(SUMS)?.toString() ?? '');
    for (const [folder, files] of sums) await destination.replace(folder, files);
    for (const [folder, files] of transferFolders(extension, baseUrl)) await destination.replace(folder, files);
    await destination.replace(extension.name, new Map([[FEED, extensionFeed(extension, this.#index.baseUrl)]]));
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

  /** The sums of a folder with their signature, checked. */
  async #signedSums(folder: string): Promise<Map<string, Buffer>> {
    const { tree } = this.#options;
    const path = `${folder}/${SUMS}`;
    const bytes = await readRequired(tree, path);
    const signature = await readRequired(tree, `${path}${SIGNATURE}`);
    if ((await goodSignatures(bytes, signature, this.#keyring)).size === 0)
      throw new UserError('the file has no good signature by a key of the tree', {
        where: `${tree.where}/${path}`,
        next: 'while the tree is being published, try again',
      });
    return new Map([
      [SUMS, bytes],
      [`${SUMS}${SIGNATURE}`, signature],
    ]);
  }

  /** Copies update payloads and images of the official layout. */
  async #copyPackages(names: readonly string[]): Promise<void> {
    const { tree, destination, signal } = this.#options;
    const packages = (await this.#published.packages()).filter(
      ({ extension, release, architecture }) => names.includes(extension) && isSelected(this.#options, { target: release, architecture }),
    );
    const folders = new Set<string>();
    for (const { path, size, sha256, image } of packages)
      for (const file of [{ path, size, sha256 }, image]) {
        signal?.throwIfAborted();
        const staged = await stageFile(this.#staging, await tree.file(file.path, file), file.sha256);
        await destination.put(file.path, staged, file);
        this.#bytes += file.size;
        folders.add(dirname(file.path));
      }
    await destination.flush();
    for (const folder of folders) await destination.replace(folder, await this.#signedSums(folder));
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

  /** Reads the public keys that the index lists. */
  async #readKeys(): Promise<Map<string, Buffer>> {
    const { tree } = this.#options;
    const files = new Map<string, Buffer>();
    for (const { path, sha256 } of this.#index.keys) files.set(basename(path), await readListed(tree, path, sha256));
    this.#keyring = await readKeyring(files.get(basename(KEYS.keyring)) ?? Buffer.alloc(0), `${tree.where}/${KEYS.keyring}`);
    return files;
  }

  /** Files of the former copy that the tree no longer offers: images that were withdrawn or retired, and files of the former state. */
  async #departed(copy: Published): Promise<string[]> {
    const former = await offeredFiles(copy, this.#options.destination);
    const now = await offeredFiles(this.#published, this.#options.tree);
    return [...former.difference(now)];
  }
}

/** Paths of everything that a tree offers beside the files that are replaced. An extension whose index is missing was never copied. */
async function offeredFiles(published: Published, source: Source): Promise<Set<string>> {
  const { index, metadata } = published;
  const paths = new Set<string>(metadata === undefined ? [] : metadataFiles(metadata));
  for (const { name, path } of index?.extensions ?? []) {
    if ((await source.read(path)) === undefined) continue;
    paths.add(path);
    const extension = await published.extension(name);
    for (const delta of extension === undefined ? [] : deltaPaths(extension)) paths.add(delta);
    for (const { withdrawn, images } of extension?.versions ?? [])
      if (withdrawn === undefined) for (const image of images) for (const file of withSidecars(image.path)) paths.add(file);
  }
  if (index !== undefined) paths.add(index.packages.path);
  for (const { path, image } of await published.packages()) paths.add(path).add(image.path);
  return paths;
}

/**
 * Copies selected parts of a published tree, for places without a network. Everything is checked: metadata from the root of trust down, and all
 * files by the digests in the index; sums also by their signature. Metadata, sums and signatures stay the publisher's: a mirror has no key. Only
 * transfer files are written again, because they contain the URL. Files that left the tree are removed.
 */
export async function mirror(options: MirrorOptions): Promise<MirrorResult> {
  const { tree, destination, trust, baseUrl, allowOlder = false } = options;
  if (!/^https?:\/\/[^/\s?#]+[^\s?#]*$/.test(baseUrl))
    throw new UsageError(`'${baseUrl}' is not a valid http(s) URL`, {
      where: '--base-url',
      next: 'pass the URL from which nodes fetch the mirror',
    });
  const known = rememberedTree(tree.where);
  const nothing = { read: async () => undefined };
  const published = await readPublished(tree, { ...trust, memory: copiedTree(allowOlder ? nothing : destination, known) });
  const { index } = published;
  if (index === undefined) throw new NoTreeError(tree);
  const copy = await readCopy(options);
  const names = selectedNames(options, index, tree.where);
  return untilNoConflict(
    () => destination.publish((staging) => new MirrorCopy(options, published, index, staging).run(names, copy)),
    options,
  );
}
