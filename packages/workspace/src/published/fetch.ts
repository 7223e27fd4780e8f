import { basename, join } from 'node:path';
import {
  copyPublic,
  formatSums,
  makeFolder,
  mapParallel,
  PUBLIC_FILE,
  parseSums,
  replaceFile,
  fsync,
  hashFile,
  sidecarPaths,
  targetName,
  UserError,
  writeAtomic,
  type Arch,
  type ExtensionRef,
  type Target,
} from '@flatcar/core/engine';
import { readListed, selectExtensions, SUMS, type PublishedImage } from '@flatcar/publish';
import { readFile } from 'node:fs/promises';
import type { OpenedTree } from '../open-published.ts';

/** Which images to fetch, and where to. */
export interface FetchRequest {
  readonly wanted: readonly ExtensionRef[];
  readonly targets: readonly Target[];
  readonly arches: readonly Arch[];
  /** Folder; created if missing. */
  readonly out: string;
}

/** An image in the folder. */
export interface FetchedImage {
  readonly extension: string;
  readonly version: string;
  readonly target: string;
  readonly architecture: Arch;
  readonly file: string;
  /** In bytes. */
  readonly size: number;
  readonly sha256: string;
  /** The folder had these bytes before. */
  readonly wasThere: boolean;
}

export interface FetchedImages {
  readonly images: readonly FetchedImage[];
  /** Extensions that were added because others require them. */
  readonly notices: readonly string[];
}

/** Puts the bytes of an image into the folder, whole or not at all. Returns true if they were there. */
async function putImage({ tree }: OpenedTree, image: PublishedImage, file: string): Promise<boolean> {
  if ((await hashFile(file).catch(() => undefined)) === image.sha256) return true;
  const from = await tree.file(image.path, image);
  await replaceFile(file, async (temporary) => {
    await copyPublic(from, temporary);
    if ((await hashFile(temporary)) !== image.sha256)
      throw new UserError('the file changed while it was copied', { where: from, next: 'run this again' });
    await fsync(temporary);
  });
  return false;
}

/** Adds images to the SHA256SUMS of a folder, so that sha256sum(1) and `flatcar-ext verify` can check them later. */
async function addSums(out: string, images: readonly FetchedImage[]): Promise<void> {
  const file = join(out, SUMS);
  const before = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error; // else what the folder has would be lost from its sums
  });
  const sums = parseSums(before, file);
  for (const image of images) sums.set(basename(image.file), image.sha256);
  await writeAtomic(file, formatSums(sums), PUBLIC_FILE);
}

/**
 * Fetches published images with their sidecars into a folder, for machine images that contain them. Selects versions as `butane` does, with the
 * extensions that others require. Every byte is checked against the verified index; a download that was interrupted continues.
 */
export async function fetchImages(opened: OpenedTree, { wanted, targets, arches, out }: FetchRequest): Promise<FetchedImages> {
  const { tree, index } = opened;
  const published = index.extensions.map(({ name }) => name);
  const selections = await mapParallel(arches, async (arch) => ({
    arch,
    ...(await selectExtensions({ wanted, targets, arch, published, baseUrl: index.baseUrl, minimal: true, stager: false }, (name) =>
      opened.extension(name),
    )),
  }));
  await makeFolder(out);
  const all = selections.flatMap(({ extensions }) =>
    extensions.flatMap(({ name, version, images }) => images.map(({ target, image }) => ({ name, version, target, image }))),
  );
  const images = await mapParallel(
    all,
    async ({ name, version, target, image }): Promise<FetchedImage> => {
      const file = join(out, basename(image.path));
      const wasThere = await putImage(opened, image, file);
      const [there, here] = [sidecarPaths(image.path), sidecarPaths(file)];
      for (const sidecar of ['manifest', 'sbom', 'provenance'] as const)
        await writeAtomic(here[sidecar], await readListed(tree, there[sidecar], image[sidecar]), PUBLIC_FILE);
      const { architecture, size, sha256 } = image;
      return { extension: name, version: version.version, target: targetName(target), architecture, file, size, sha256, wasThere };
    },
    4,
  );
  await addSums(out, images);
  return { images, notices: [...new Set(selections.flatMap(({ added }) => added))] };
}
