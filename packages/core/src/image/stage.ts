import { constants } from 'node:fs';
import { chmod, copyFile, lstat, readlink, symlink } from 'node:fs/promises';
import { basename, dirname, join, matchesGlob } from 'node:path';
import { makeFolder } from '../util/files.ts';
import type { InstallRule } from '../definition/types.ts';
import { UserError } from '../util/errors.ts';
import { filesBelow } from '../util/walk.ts';

/** One component's files and where they go. */
export interface StagePart {
  readonly component: string;
  readonly dir: string;
  readonly install: readonly InstallRule[];
}

interface Found {
  readonly path: string;
  readonly link: boolean;
  readonly executable: boolean;
}

/** Files and links below a folder, by relative path, sorted. */
async function filesIn(dir: string): Promise<Found[]> {
  const found: Found[] = [];
  for (const { path, full, type } of await filesBelow(dir)) {
    const { mode } = await lstat(full);
    found.push({ path, link: type === 'link', executable: (mode & 0o111) !== 0 });
  }
  return found;
}

const isGlob = (text: string): boolean => text.includes('*');

/** What a place asks for, and the path in the image for each file. */
function select(rule: InstallRule, found: readonly Found[], component: string): { file: Found; to: string }[] {
  const into = rule.to === '' || rule.to.endsWith('/');
  if (!isGlob(rule.from)) {
    const exact = found.filter((file) => file.path === rule.from);
    const named = exact.length > 0 ? exact : found.filter((file) => basename(file.path) === rule.from);
    const [file, second] = named;
    if (file === undefined) {
      throw new UserError(`component '${component}' gave no file '${rule.from}'`, {
        next: `it gave: ${
          found
            .map(({ path }) => path)
            .slice(0, 20)
            .join(', ') || 'nothing'
        }; correct the place in extension.ts`,
      });
    }
    if (second !== undefined) {
      throw new UserError(`component '${component}' gave several files '${rule.from}': ${named.map(({ path }) => path).join(', ')}`, {
        next: 'write the whole path in extension.ts',
      });
    }
    return [{ file, to: into ? rule.to + basename(file.path) : rule.to }];
  }
  if (!into) throw new UserError(`component '${component}': '${rule.from}' may be many files, so '${rule.to}' must end in '/'`);
  // `dir/**` keeps the folders below dir; any other pattern is placed flat.
  const deep = rule.from.indexOf('**');
  const kept = deep === -1 ? undefined : rule.from.slice(0, deep);
  const matching = found.filter(({ path }) => (kept === undefined ? matchesGlob(path, rule.from) : path.startsWith(kept)));
  if (matching.length === 0) throw new UserError(`component '${component}' gave no file that matches '${rule.from}'`);
  return matching.map((file) => ({ file, to: rule.to + (kept === undefined ? basename(file.path) : file.path.slice(kept.length)) }));
}

/**
 * Copies what the components gave into `dest`, each file to its rule.
 * Returns which component owns which path. Throws when two want the same path.
 */
export async function stage(parts: readonly StagePart[], dest: string): Promise<Map<string, string>> {
  const owners = new Map<string, string>();
  for (const { component, dir, install } of parts) {
    const found = await filesIn(dir);
    for (const rule of install) {
      for (const { file, to } of select(rule, found, component)) {
        const owner = owners.get(to);
        if (owner !== undefined)
          throw new UserError(`'${to}' comes from both '${owner}' and '${component}'`, {
            next: 'give one of them another place in extension.ts',
          });
        owners.set(to, component);
        const target = join(dest, to);
        await makeFolder(dirname(target));
        if (file.link) {
          await symlink(await readlink(join(dir, file.path)), target);
          continue;
        }
        await copyFile(join(dir, file.path), target, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
        await chmod(target, rule.mode ?? (isGlob(rule.from) && !file.executable ? 0o644 : 0o755));
      }
    }
  }
  return owners;
}
