import { mkdir, readdir, stat } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { need } from './toolkit.ts';

/** Folder of a run's artifacts: one folder each. */
export const artifactsDir = (): string => join(need('STANDIN_STATE'), 'artifacts', need('GITHUB_RUN_ID'));

/** What a search path holds: whole files, folders that are hidden and all below left out, as upload-artifact does by default. */
export async function filesBelow(path: string): Promise<string[]> {
  const info = await stat(path).catch(() => undefined);
  if (info === undefined) return [];
  if (!info.isDirectory()) return [path];
  const names = (await readdir(path)).filter((name) => !name.startsWith('.'));
  return (await Promise.all(names.map((name) => filesBelow(join(path, name))))).flat();
}

/** The folder that an artifact's paths are relative to, as upload-artifact's search.ts computes it. */
export function rootOf(searchPaths: readonly string[], files: readonly string[]): string {
  const [first = '', ...more] = searchPaths;
  if (more.length === 0) return files.length === 1 && files[0] === first ? join(first, '..') : first;
  const split = searchPaths.map((path) => path.split(sep));
  const common: string[] = [];
  for (const [index, part] of (split[0] ?? []).entries()) {
    if (split.some((one) => one[index] !== part)) break;
    common.push(part);
  }
  return common.join(sep) || sep;
}

/** Makes the folder of a new artifact; names are unique in a run, and hold none of the characters that GitHub refuses. */
export async function newArtifact(name: string): Promise<string> {
  if (name === '' || /[":<>|*?\r\n\\/]/.test(name)) throw new Error(`The artifact name is not valid: ${name}`);
  const dir = join(artifactsDir(), name);
  await mkdir(artifactsDir(), { recursive: true });
  await mkdir(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
    throw new Error(
      `Failed to CreateArtifact: Received non-retryable error: Failed request: (409) Conflict: an artifact with this name already exists on the workflow run: ${name}`,
    );
  });
  return dir;
}
