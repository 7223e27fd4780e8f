import { readFile } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { exec, findExtensions, jsonObject, parseJson, writeAtomic } from '@flatcar/core/engine';
import { REPOSITORY } from './select.ts';

/** npm's lock of the whole repository, with an entry for each extension. */
export const packageLock = join(REPOSITORY, 'package-lock.json');
/** The lock that scripts/run has installed. */
const INSTALLED = join(REPOSITORY, 'node_modules/.installed');

type Entry = Readonly<Record<string, unknown>>;

/** The keys that npm copies from a workspace's package.json into its lock, in npm's order, and those that it leaves out. */
const COPIED = ['version', 'license', 'dependencies', 'devDependencies'];
const LEFT_OUT = ['name', 'private', 'keywords', 'type', 'scripts', 'description', 'exports'];

/**
 * The text of a lock with the entries of exactly these extensions, as npm writes it; `extensions` maps paths of folders in the repository to
 * their package.json. Undefined if an extension depends on a package that is not in this repository: only npm can resolve that.
 */
export function lockText(before: string, extensions: ReadonlyMap<string, Entry>): string | undefined {
  const lock = parseJson(jsonObject, before, { what: 'package-lock.json', where: packageLock, next: 'git checkout package-lock.json' });
  const packages = Object.entries((lock['packages'] ?? {}) as Readonly<Record<string, Entry>>);
  const isExtension = (path: unknown): boolean => typeof path === 'string' && /^extensions\/[^/]+$/.test(path);
  const kept = packages.filter(([path, { resolved }]) => !isExtension(path) && !isExtension(resolved));
  const ours = new Set(packages.flatMap(([path, { link }]) => (link === true ? [path.replace(/^node_modules\//, '')] : [])));
  const known = new Map(packages);
  const made: [string, Entry][] = [];
  for (const [path, json] of extensions) {
    const entry = Object.fromEntries(COPIED.flatMap((key) => (json[key] === undefined ? [] : [[key, json[key]]])));
    const isKnown = isDeepStrictEqual(known.get(path), entry);
    const asked = [json['dependencies'], json['devDependencies']].flatMap((list) => Object.keys((list ?? {}) as Entry));
    const isPlain = Object.keys(json).every((key) => [...COPIED, ...LEFT_OUT].includes(key)) && json['name'] === basename(path);
    if (!isKnown && !(isPlain && asked.every((name) => ours.has(name)))) return undefined;
    made.push([path, entry], [`node_modules/${basename(path)}`, { resolved: path, link: true }]);
  }
  const sorted = [...kept, ...made].toSorted(([a], [b]) => a.localeCompare(b, 'en'));
  return `${JSON.stringify({ ...lock, packages: Object.fromEntries(sorted) }, undefined, 2)}\n`;
}

/** The package.json of each extension, by the path of its folder. */
async function readManifests(): Promise<Map<string, Entry>> {
  const dirs = await findExtensions(REPOSITORY);
  const read = dirs.map(async (dir): Promise<[string, Entry]> => {
    const file = join(dir, 'package.json');
    return [relative(REPOSITORY, dir), parseJson(jsonObject, await readFile(file, 'utf8'), { what: 'package.json', where: file })];
  });
  return new Map(await Promise.all(read));
}

/** Whether package-lock.json has the entries of the extensions in this checkout. */
export async function isLockCurrent(): Promise<boolean> {
  const before = await readFile(packageLock, 'utf8');
  return lockText(before, await readManifests()) === before;
}

/**
 * Updates package-lock.json to the package.json files of all extensions. Entries with packages of this repository only are written without npm
 * and network: a kill at any moment leaves the old lock or the new one.
 */
export async function updatePackageLock(signal?: AbortSignal): Promise<void> {
  const before = await readFile(packageLock);
  const text = lockText(before.toString(), await readManifests());
  if (text === undefined) await byNpm(signal);
  else if (text !== before.toString()) await writeAtomic(packageLock, text);
  // The new entry needs nothing that is not installed: the next command need not install everything again.
  if (before.equals(await readFile(INSTALLED).catch(() => Buffer.of()))) await writeAtomic(INSTALLED, await readFile(packageLock));
}

async function byNpm(signal: AbortSignal | undefined): Promise<void> {
  const registry = process.env['npm_config_registry'];
  await exec('npm', ['install', '--package-lock-only', '--no-audit', '--no-fund'], {
    cwd: REPOSITORY,
    env: registry === undefined ? {} : { npm_config_registry: registry },
    next: 'run it by hand: npm install --package-lock-only',
    signal,
  });
}
