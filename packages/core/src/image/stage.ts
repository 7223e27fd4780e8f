import { constants } from 'node:fs';
import { chmod, copyFile, lstat, readlink, symlink } from 'node:fs/promises';
import { basename, dirname, join, matchesGlob } from 'node:path';
import { makeFolder } from '../util/files.ts';
import type { InstallRule } from '../definition/types.ts';
import { UserError } from '../util/errors.ts';
import { filesBelow } from '../util/walk.ts';

/** The files of a component, and where to install them. */
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

/** Files and links below a folder, sorted by relative path. */
async function filesIn(dir: string): Promise<Found[]> {
  const found: Found[] = [];
  for (const { path, full, type } of await filesBelow(dir)) {
    const { mode } = await lstat(full);
    found.push({ path, link: type === 'link', executable: (mode & 0o111) !== 0 });
  }
  return found;
}

const isGlob = (text: string): boolean => text.includes('*');

/** A file of a component and its path in the image. */
interface Installed {
  readonly file: Found;
  readonly to: string;
}

/** The one file that a rule without a glob names, by path or by file name. */
function namedFile({ from }: InstallRule, found: readonly Found[], component: string): Found {
  const exact = found.filter((file) => file.path === from);
  const named = exact.length > 0 ? exact : found.filter((file) => basename(file.path) === from);
  const [file, second] = named;
  const paths = (files: readonly Found[]): string => files.map(({ path }) => path).join(', ');
  if (file === undefined)
    throw new UserError(`component '${component}' has no file '${from}'`, {
      next: `correct 'from' in extension.ts; its files: ${paths(found.slice(0, 20)) || 'none'}`,
    });
  if (second !== undefined)
    throw new UserError(`component '${component}' has several files '${from}': ${paths(named)}`, {
      next: 'write the whole path in extension.ts',
    });
  return file;
}

/** The files that a rule installs. */
function select(rule: InstallRule, found: readonly Found[], component: string): Installed[] {
  const { from, to } = rule;
  const isFolder = to === '' || to.endsWith('/');
  if (!isGlob(from)) {
    const file = namedFile(rule, found, component);
    return [{ file, to: isFolder ? to + basename(file.path) : to }];
  }
  if (!isFolder)
    throw new UserError(`component '${component}': '${from}' may match several files, so '${to}' must end in '/'`, {
      next: 'correct it in extension.ts',
    });
  // `dir/**` keeps the folders below dir; the files of any other pattern get into one folder.
  const deep = from.indexOf('**');
  const kept = deep === -1 ? undefined : from.slice(0, deep);
  const matching = found.filter(({ path }) => (kept === undefined ? matchesGlob(path, from) : path.startsWith(kept)));
  if (matching.length === 0) throw new UserError(`component '${component}' has no file that matches '${from}'`);
  return matching.map((file) => ({ file, to: to + (kept === undefined ? basename(file.path) : file.path.slice(kept.length)) }));
}

async function installFile({ file, to }: Installed, rule: InstallRule, dir: string, dest: string): Promise<void> {
  const target = join(dest, to);
  await makeFolder(dirname(target));
  if (file.link) return symlink(await readlink(join(dir, file.path)), target);
  await copyFile(join(dir, file.path), target, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
  await chmod(target, rule.mode ?? (isGlob(rule.from) && !file.executable ? 0o644 : 0o755));
}

/**
 * Installs the files of the components in `dest`. Returns the component that owns each path. Throws a UserError if two components install a file
 * at the same path.
 */
export async function stage(parts: readonly StagePart[], dest: string): Promise<Map<string, string>> {
  const owners = new Map<string, string>();
  for (const { component, dir, install } of parts) {
    const found = await filesIn(dir);
    for (const rule of install) {
      for (const installed of select(rule, found, component)) {
        const owner = owners.get(installed.to);
        if (owner !== undefined)
          throw new UserError(`'${installed.to}' comes from both '${owner}' and '${component}'`, {
            next: 'install one of the files at another path in extension.ts',
          });
        owners.set(installed.to, component);
        await installFile(installed, rule, dir, dest);
      }
    }
  }
  return owners;
}
