import { readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { UserError } from '../util/errors.ts';
import { PUBLIC_FILE, writeAtomic } from '../util/files.ts';
import type { Store } from '../store/store.ts';

/** Reads the format of sha256sum(1): one `<hex>  <name>` per line, with or without the binary mark `*`. */
export function parseSums(text: string, where: string): Map<string, string> {
  const sums = new Map<string, string>();
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const [, digest, name] = /^([0-9a-f]{64}) [ *](.+)$/.exec(line) ?? [];
    if (digest === undefined || name === undefined)
      throw new UserError(`'${line.slice(0, 80)}' is not a valid line of SHA256SUMS`, { where });
    sums.set(name, digest);
  }
  return sums;
}

/** The text of SHA256SUMS, sorted by name. */
export function formatSums(sums: ReadonlyMap<string, string>): string {
  return [...sums]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, digest]) => `${digest}  ${name}\n`)
    .join('');
}

/** Adds an image to the SHA256SUMS of its folder, and keeps other entries. Two builds into one folder take turns. */
export async function addToSums(store: Store, image: { file: string; sha256: string }): Promise<string> {
  const file = join(dirname(image.file), 'SHA256SUMS');
  return store.lock('sums', async () => {
    const sums = parseSums(await readFile(file, 'utf8').catch(() => ''), file);
    sums.set(basename(image.file), image.sha256);
    await writeAtomic(file, formatSums(sums), PUBLIC_FILE);
    return file;
  });
}
