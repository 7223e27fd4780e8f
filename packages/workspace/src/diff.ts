import { join } from 'node:path';
import { differenceBetween, openStore, openTools, readTree, unpackImage, type Difference, type ImageContent } from '@flatcar/core/engine';
import { imageFormat, readImageFile } from './image-file.ts';

/** Unpacks two image files and compares them. */
export async function compareImages(before: string, after: string): Promise<Difference> {
  const store = openStore();
  const tools = openTools(store);
  return store.withTemp(async (temp) => {
    const read = async (file: string, name: string): Promise<ImageContent> => {
      const { manifest } = await readImageFile(file);
      const dir = join(temp, name);
      await unpackImage(tools, file, await imageFormat(file), manifest.architecture, dir);
      return { ...manifest, entries: (await readTree(dir, new Map())).entries };
    };
    return differenceBetween(await read(before, 'before'), await read(after, 'after'));
  });
}
