import { join } from 'node:path';
import { folderOf } from '../definition/components.ts';
import type { FilesOrigin } from '../definition/types.ts';
import { digestOf } from '../util/digest.ts';
import { readTree } from '../image/tree.ts';
import type { DescribeContext, OriginContext, OriginDescription, OriginResult } from './origin.ts';

/** Raised when the same folder is to give other files. */
const FILES_FORMAT = 1;

/** What files of the extension are made of: its own folder, known by the digest of what is in it. */
export async function describeFiles(origin: FilesOrigin, context: DescribeContext): Promise<OriginDescription> {
  const folder = folderOf(origin, context.arch);
  const dir = join(context.dir, folder);
  const { entries } = await readTree(dir, new Map());
  // Git keeps the execute bit only; the rest of a mode is the umask of whoever checked out.
  const canonical = entries.map(({ path, mode, sha256, link }) => ({ path, executable: (mode & 0o100) !== 0, sha256, link }));
  return {
    materials: [{ locator: `files:${folder}`, sha256: digestOf(canonical), proof: 'in this repository' }],
    format: `files ${FILES_FORMAT}`,
    parameters: {},
    tools: [],
  };
}

/** Files that the extension ships itself. */
export async function buildFiles(origin: FilesOrigin, context: OriginContext): Promise<OriginResult> {
  return { dir: join(context.dir, folderOf(origin, context.arch)), ...(await describeFiles(origin, context)) };
}
