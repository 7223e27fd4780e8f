import { join } from 'node:path';
import type { FilesOrigin } from '../extension.ts';
import { readTree } from '../tree.ts';
import type { OriginContext, OriginResult } from './origin.ts';

/** Files that the extension ships itself: its own folder, known by the digest of what is in it. */
export async function buildFiles(origin: FilesOrigin, context: OriginContext): Promise<OriginResult> {
  const dir = join(context.dir, origin.dir);
  const tree = await readTree(dir, new Map());
  return {
    dir,
    materials: [{ locator: `files:${origin.dir}`, sha256: tree.digest, proof: 'in this repository' }],
    parameters: {},
    tools: [],
  };
}
