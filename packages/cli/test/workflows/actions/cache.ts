import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { input, lines, need, output, pathOf } from './toolkit.ts';

const dir = (): string => {
  const where = join(need('STANDIN_STATE'), 'caches');
  mkdirSync(where, { recursive: true });
  return where;
};
/** One after the other: here all jobs share a home, which on GitHub each has of its own. */
const tar = (...args: readonly string[]): unknown =>
  execFileSync('flock', [join(need('STANDIN_STATE'), 'tar.lock'), 'tar', ...args], { stdio: 'inherit' });
const fileOf = (key: string): string => join(dir(), `${encodeURIComponent(key)}.tar`);

/** Restores by the key, else by the newest that one of restore-keys begins; as actions/cache, an archive that tar cannot unpack is a miss. */
export function restore(): boolean {
  const saved = readdirSync(dir()).map((name) => ({
    key: decodeURIComponent(name.replace(/\.tar$/, '')),
    time: statSync(join(dir(), name)).mtimeMs,
  }));
  const newest = saved.toSorted((a, b) => b.time - a.time);
  const found =
    newest.find(({ key }) => key === input('key')) ??
    lines('restore-keys').flatMap((prefix) => newest.find(({ key }) => key.startsWith(prefix)) ?? [])[0];
  output('cache-primary-key', input('key'));
  if (found === undefined) {
    console.log(`Cache not found for input keys: ${[input('key'), ...lines('restore-keys')].join(', ')}`);
    return false;
  }
  try {
    tar('--extract', '--file', fileOf(found.key), '--absolute-names', '--directory', '/');
  } catch {
    console.log('::warning::Failed to restore: "/usr/bin/tar" failed with error: The process failed with exit code 2');
    return false;
  }
  console.log(`Cache restored from key: ${found.key}`);
  output('cache-matched-key', found.key);
  output('cache-hit', String(found.key === input('key')));
  return found.key === input('key');
}

/** Saves under the key, unless it is taken; what tar cannot read fails the archive, which is a warning. */
export function save(): void {
  const file = fileOf(input('key'));
  if (existsSync(file))
    return console.log(`Failed to save: Unable to reserve cache with key ${input('key')}, another job may be creating this cache.`);
  const paths = lines('path')
    .map(pathOf)
    .filter((path) => existsSync(path));
  if (paths.length === 0)
    return console.log(
      '::warning::Path Validation Error: Path(s) specified in the action for caching do(es) not exist, hence no cache is being saved.',
    );
  try {
    tar('--posix', '--create', '--file', `${file}.part`, '--absolute-names', ...paths);
  } catch {
    return console.log('::warning::Failed to save: "/usr/bin/tar" failed with error: The process failed with exit code 2');
  }
  renameSync(`${file}.part`, file);
  console.log(`Cache saved with key: ${input('key')}`);
}
