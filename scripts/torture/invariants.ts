import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, lstat, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { hashFile, parseSums, readManifest, walk } from '@flatcar/core/engine';
import { loadKeys, localDestination, readPublished } from '@flatcar/publish';

const run = promisify(execFile);

/** Content of a folder, by path: digest of a file, target of a link, `/` of a folder. */
export type Snapshot = ReadonlyMap<string, string>;

/** Names that hold a random part or the digest of a signature, without it. */
const plainName = (path: string): string => path.replace(/\.set-[0-9a-f]{32}/g, '.set');

/** Paths that are another process's business, or say who holds a lock. */
const isOutside = (path: string): boolean => /(?:^|\/)(?:\.git|node_modules|locks|in-use\.lock|\.publish\.lock)(?:\/|$)/.test(path);

/** Reads a folder. A missing one is empty. */
export async function snapshot(root: string): Promise<Snapshot> {
  const found = new Map<string, string>();
  const walk = async (relative: string): Promise<void> => {
    const names = await readdir(join(root, relative)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    for (const name of names) {
      const path = relative === '' ? name : `${relative}/${name}`;
      if (isOutside(path)) continue;
      const status = await lstat(join(root, path));
      if (status.isDirectory()) {
        found.set(plainName(path), '/');
        await walk(path);
      } else if (status.isSymbolicLink()) found.set(plainName(path), plainName(await readlink(join(root, path))));
      else found.set(plainName(path), await hashFile(join(root, path)));
    }
  };
  await walk('');
  return found;
}

/** Paths whose content differs between two runs that were not disturbed: signatures, which contain the time. */
export function differing(a: Snapshot, b: Snapshot): Set<string> {
  return new Set([...a].filter(([path, content]) => b.get(path) !== content).map(([path]) => path));
}

/** How a folder differs from what an undisturbed run leaves. `volatile` paths must be there, with any content. */
export function differences(have: Snapshot, want: Snapshot, volatile: ReadonlySet<string>): string[] {
  const problems: string[] = [];
  for (const [path, content] of want)
    if (!have.has(path)) problems.push(`${path} is missing`);
    else if (have.get(path) !== content && !volatile.has(path)) problems.push(`${path} has other bytes`);
  for (const path of have.keys()) if (!want.has(path)) problems.push(`${path} is left`);
  return problems;
}

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** Files below a folder that are served or handed over: no name in them begins with a dot. */
async function visible(root: string): Promise<string[]> {
  const names = (await walk(root).catch(() => [])).map(({ path }) => path);
  const files: string[] = [];
  for (const path of names) {
    if (path.split('/').some((part) => part.startsWith('.'))) continue;
    // A link without a target is not a file yet.
    const status = await stat(join(root, path)).catch(() => undefined);
    if (status?.isFile() === true) files.push(path);
  }
  return files;
}

/** Problems of a folder of images: a file that is half, sums that do not match, a manifest of other bytes. */
export async function checkImages(root: string, want: Snapshot): Promise<string[]> {
  const problems: string[] = [];
  for (const path of await visible(root)) {
    const name = basename(path);
    if (name === 'SHA256SUMS') {
      const sums = parseSums(await readFile(join(root, path), 'utf8'), path);
      for (const [file, sha256] of sums)
        if ((await hashFile(join(root, dirname(path), file)).catch(() => 'missing')) !== sha256)
          problems.push(`${path}: ${file} does not match`);
    } else if (want.has(path) && want.get(path) !== (await hashFile(join(root, path)))) problems.push(`${path} is half or has other bytes`);
    if (name.endsWith('.manifest.json')) {
      const image = join(root, path.replace(/\.manifest\.json$/, '.raw'));
      const manifest = await readManifest(image).catch((error: unknown) => void problems.push(`${path}: ${String(error)}`));
      if (manifest !== undefined && (await hashFile(image).catch(() => 'missing')) !== manifest.sha256)
        problems.push(`${path}: its image does not match`);
    }
  }
  return problems;
}

/**
 * Problems of a tree as nodes see it: signatures by gpgv, sums by sha256sum, everything that the index lists. A mirror may have no update payloads,
 * although its index, the publisher's own, lists them.
 */
export async function checkTree(root: string, keysDir: string, temp: string, isMirror = false): Promise<string[]> {
  const problems: string[] = [];
  const served = await visible(root);
  const { trusted, metadata } = await loadKeys(keysDir, {});
  const keyring = join(temp, 'keyring.gpg');
  await writeFile(keyring, Buffer.concat(trusted.map((key) => Buffer.from(key.write()))));
  try {
    for (const path of served.filter((one) => basename(one) === 'SHA256SUMS')) {
      const file = join(root, path);
      await run('gpgv', ['--keyring', keyring, `${file}.gpg`, file]).catch((error: Error) =>
        problems.push(`${path}: gpgv: ${error.message}`),
      );
      // Sums of a folder whose images have all left are empty, which sha256sum refuses.
      if ((await stat(file)).size > 0)
        await run('sha256sum', ['--check', '--quiet', '--strict', '--ignore-missing', 'SHA256SUMS'], { cwd: dirname(file) }).catch(
          (error: Error) => problems.push(`${path}: sha256sum: ${error.message}`),
        );
    }
  } finally {
    await rm(keyring, { force: true });
  }
  if (!served.includes('metadata/timestamp.json')) return problems; // a first publish that did not come as far
  const published = await readPublished(localDestination(root), { root: metadata.roots.at(-1) });
  const listed: { path: string; sha256: string }[] = [];
  for (const { name } of published.index?.extensions ?? [])
    for (const { images } of (await published.extension(name))?.versions ?? []) listed.push(...images);
  if (!isMirror) for (const one of await published.packages()) listed.push(one, one.image);
  for (const { path, sha256 } of listed)
    if ((await hashFile(join(root, path)).catch(() => 'missing')) !== sha256) problems.push(`${path} is not what the index lists`);
  return problems;
}

/** Problems of a folder of keys: a set is whole or not there. */
export async function checkKeys(root: string): Promise<string[]> {
  if (!(await isThere(root))) return [];
  return loadKeys(root, {}).then(
    async ({ update, certificate }) => [
      ...(update.length === 0 ? ['the set of keys has no key for update payloads'] : []),
      ...(certificate === undefined || !(await isThere(join(root, 'roothash.key'))) ? ['the set of keys has no key for disk images'] : []),
    ],
    (error: unknown) => [`the set of keys cannot be used: ${String(error)}`],
  );
}

/** Problems of a checkout: every file must be as before or as the command leaves it, and a folder of an extension must be complete or absent. */
export function checkCheckout(have: Snapshot, before: Snapshot, after: Snapshot): string[] {
  const problems: string[] = [];
  for (const [path, content] of have) {
    if (/\.tmp(?:\/|$)|\/dist(?:\/|$)|\/\.[^/]*$/.test(path)) continue; // not under its final name
    if (content !== before.get(path) && content !== after.get(path)) problems.push(`${path} is half or has other bytes`);
  }
  return problems;
}

/** Digest of what a folder's snapshot says: for messages. */
export const digest = (have: Snapshot): string =>
  createHash('sha256')
    .update(
      [...have]
        .map((pair) => pair.join(' '))
        .toSorted()
        .join('\n'),
    )
    .digest('hex')
    .slice(0, 12);
