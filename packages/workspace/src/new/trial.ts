import { cp, lstat, mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { insideTree, walk, type Sandbox } from '@flatcar/core/engine';

/** How a program ended, and its output. */
export interface Trial {
  /** Its exit status; undefined if it was killed, by a signal or because it took too long. */
  readonly status: number | undefined;
  readonly output: string;
}

/** Limits of a trial. */
export interface TrialLimits {
  /** Of one command, in milliseconds. */
  readonly time: number;
  /** Of one command's output, in characters. */
  readonly output: number;
}

/** The default limits: a busy machine takes seconds to load libraries. */
export const TRIAL_LIMITS: TrialLimits = { time: 30_000, output: 1 << 20 };

/** Creates a folder in a tree; undefined if links lead out of the tree. */
async function folderIn(root: string, path: string): Promise<string | undefined> {
  for (let at = path; at !== '/'; at = dirname(at)) {
    if ((await lstat(join(root, at)).catch(() => undefined)) === undefined) continue;
    if ((await insideTree(root, at)) === undefined) return undefined;
    break;
  }
  await mkdir(join(root, path), { recursive: true });
  return insideTree(root, path);
}

/** Does what a C line of tmpfiles.d(5) does, unless one of its paths leaves the image: upstream may have written the line. */
export async function copyInside(root: string, from: string, to: string): Promise<void> {
  if (/(?:^|\/)\.\.(?:\/|$)/.test(`${from}\n${to}`)) return;
  const source = await insideTree(root, from);
  const folder = source === undefined ? undefined : await folderIn(root, dirname(to));
  if (source === undefined || folder === undefined) return;
  const options = { recursive: true, force: false, verbatimSymlinks: true };
  await cp(source, join(folder, basename(to)), options).catch(() => undefined); // lint reports missing files
}

/** Adds what a node has besides an image: users, and what tmpfiles.d of the image copies to /etc. */
export async function furnish(root: string): Promise<void> {
  for (const dir of ['var/lib', 'etc']) await mkdir(join(root, dir), { recursive: true });
  await writeFile(join(root, 'etc/passwd'), 'root:x:0:0:root:/:/bin/sh\ntrial:x:1000:1000:trial:/tmp/home:/bin/sh\n');
  await writeFile(join(root, 'etc/group'), 'root:x:0:\ntrial:x:1000:\n');
  for (const { full, type } of await walk(join(root, 'usr/lib/tmpfiles.d')).catch(() => [])) {
    if (type !== 'file' || !full.endsWith('.conf')) continue;
    const text = await readFile(full, 'utf8');
    for (const [, to = '', from = ''] of text.matchAll(/^C\S*\s+(\/etc\/\S+)(?:\s+\S+){4}\s+(\/usr\/\S+)/gm))
      await copyInside(root, from, to);
  }
}

/**
 * Runs programs of an unpacked image that nobody has reviewed: in the sandbox, as an unprivileged user, with the image as read-only /, without
 * network and without a writable folder. Kills a program that takes too long or prints too much, with its children. Throws a UserError if there
 * is no sandbox: then nothing runs.
 */
export function openTrial(sandbox: Sandbox, root: string, work: string, limits: TrialLimits = TRIAL_LIMITS) {
  return async (program: string, args: readonly string[], signal?: AbortSignal): Promise<Trial> => {
    const timeout = AbortSignal.timeout(limits.time);
    const ends = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
    const options = { root, work, cwd: '/', readOnly: true, signal: ends, maxOutput: limits.output };
    try {
      const { exitCode, output } = await sandbox.attempt(`/usr/bin/${program}`, args, options);
      return { status: exitCode, output };
    } catch (error) {
      if (!timeout.aborted || signal?.aborted === true) throw error;
      return { status: undefined, output: `it did not end within ${limits.time / 1000} seconds` };
    }
  };
}
