import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Folder of an extension's tests and of what only they need. */
export const testFolder = (extension: string): string => join(extension, 'test');

/** The folder of the extension that a folder belongs to: the closest one with a definition. Throws an Error if there is none. */
export function extensionFolder(from: string): string {
  for (let folder = from; ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'extension.ts'))) return folder;
    if (folder === dirname(folder)) throw new Error(`${from} is not in the folder of an extension`);
  }
}
