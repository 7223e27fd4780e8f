import { join } from 'node:path';
import {
  openStore,
  openTools,
  readContent,
  readElf,
  readReleaseFile,
  unpackImage,
  type ImageEntry,
  type Manifest,
} from '@flatcar/core/engine';
import { imageFormat, readImageFile } from './image-file.ts';

/** A program or library in an image. */
export interface InspectedProgram {
  readonly path: string;
  readonly linkage: 'static' | 'dynamic';
  /** Libraries that it asks the loader for. */
  readonly needed: readonly string[];
  /** The newest GLIBC_x.y that it needs. */
  readonly glibc: string | undefined;
}

/** What an image says of itself, and what is in it. */
export interface InspectedImage extends Pick<Manifest, 'name' | 'version' | 'target' | 'architecture' | 'size' | 'components'> {
  readonly file: string;
  readonly format: string;
  /** The keys of its release file. */
  readonly releaseFile: Record<string, string>;
  readonly entries: readonly ImageEntry[];
  readonly programs: readonly InspectedProgram[];
}

/** Reads an image and its manifest. Throws a UserError if the file is not an image, or has no manifest. */
export async function inspectImage(file: string): Promise<InspectedImage> {
  const format = await imageFormat(file);
  const { manifest } = await readImageFile(file);
  const { name, kind, version, target, architecture, size, components } = manifest;
  const store = openStore();
  const { entries } = await readContent(file, format, architecture);
  return store.withTemp(async (temp) => {
    const dir = join(temp, 'content');
    await unpackImage(openTools(store), file, format, architecture, dir);
    const programs: InspectedProgram[] = [];
    for (const { path, type } of entries) {
      const elf = type === 'file' ? await readElf(join(dir, path)) : undefined;
      if (elf === undefined) continue;
      const linkage = elf.needed.length === 0 && elf.interpreter === undefined ? 'static' : 'dynamic';
      programs.push({ path, linkage, needed: elf.needed, glibc: elf.glibc });
    }
    const releaseFile = await readReleaseFile(dir, name, kind, file);
    return { file, format, name, version, target, architecture, size, releaseFile, components, entries, programs };
  });
}
