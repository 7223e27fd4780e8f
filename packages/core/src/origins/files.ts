import { join } from 'node:path';
import { folderOf } from '../definition/components.ts';
import type { FilesOrigin } from '../definition/types.ts';
import { readTree } from '../image/tree.ts';
import { digestOf } from '../util/digest.ts';
import { ownMaterial, type DescribeContext, type OriginContext, type OriginDescription, type OriginResult } from './origin.ts';

/** Raised when the same folder must give other files. */
const FILES_FORMAT = 1;

/** The inputs of the extension's own files: their folder, identified by the digest of its content. */
export async function describeFiles(origin: FilesOrigin, context: DescribeContext): Promise<OriginDescription> {
  const folder = folderOf(origin, context.arch);
  const { entries } = await readTree(join(context.dir, folder), new Map());
  // Git keeps the execute bit only; the rest of a mode is the umask of whoever checked out.
  const canonical = entries.map(({ path, mode, sha256, link }) => ({ path, executable: (mode & 0o100) !== 0, sha256, link }));
  return {
    materials: [ownMaterial(folder, digestOf(canonical))],
    format: `files ${FILES_FORMAT}`,
    parameters: {},
    tools: [],
  };
}

/** Files that the extension ships itself. */
export async function buildFiles(origin: FilesOrigin, context: OriginContext): Promise<OriginResult> {
  return { dir: join(context.dir, folderOf(origin, context.arch)), ...(await describeFiles(origin, context)) };
}
