import { join } from 'node:path';
import { archWords } from '../arch.ts';
import type { FilesOrigin } from '../extension.ts';
import { digestOf } from '../store.ts';
import { readTree } from '../tree.ts';
import type { OriginContext, OriginResult } from './origin.ts';

/** Files that the extension ships itself: its own folder, known by the digest of what is in it. */
export async function buildFiles(origin: FilesOrigin, context: OriginContext): Promise<OriginResult> {
  const folder = origin.dir.replaceAll('{arch}', archWords(context.arch).go);
  const dir = join(context.dir, folder);
  const { entries } = await readTree(dir, new Map());
  // Git keeps the execute bit only; the rest of a mode is the umask of whoever checked out.
  const canonical = entries.map(({ path, mode, sha256, link }) => ({ path, executable: (mode & 0o100) !== 0, sha256, link }));
  return {
    dir,
    materials: [{ locator: `files:${folder}`, sha256: digestOf(canonical), proof: 'in this repository' }],
    parameters: {},
    tools: [],
  };
}
