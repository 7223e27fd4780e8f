// The Debian root of the tests: made on hosts without Debian's keys, kept as one file that every user can read.
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { debianMirror, openStore, openTools } from '@flatcar/core/engine';
import { afterAll, beforeAll, debianRoot, describe, expect, mergeTest, withHost } from '../src/index.ts';

const run = promisify(execFile);

/** Hides Debian's keys and its debootstrap in a mount namespace of its own, as on Ubuntu; then runs the command. */
const WITHOUT_KEYS = `
set -e
mount --make-rprivate /
for folder in /usr/share/keyrings /etc/apt/trusted.gpg.d /etc/apt/keyrings; do
  if [ -d "$folder" ]; then mount -t tmpfs tmpfs "$folder"; fi
done
exec "$@"
`;

const MAKE = `
import { openStore, openTools } from '@flatcar/core/engine';
import { debianRoot } from '@flatcar/testing';
const store = openStore();
console.log(await debianRoot(store, openTools(store), { packages: ['passwd'] }));
`;

describe('the Debian root of the tests', () => {
  let dir: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'root-'));
  });
  afterAll(() => rm(dir, { recursive: true, force: true }));

  mergeTest("is made by this repository's keys on a host that has none of Debian's", async () => {
    const { stdout } = await run(
      'unshare',
      ['--mount', 'sh', '-c', WITHOUT_KEYS, 'sh', process.execPath, '--input-type=module', '--eval', MAKE],
      {
        cwd: import.meta.dirname,
        env: { ...process.env, FLATCAR_EXT_CACHE: join(dir, 'store'), FLATCAR_EXT_DEBIAN_MIRROR: await debianMirror() },
      },
    );
    const root = stdout.trim();
    expect(root.startsWith(join(dir, 'store'))).toBe(true);
    // One file, whoever made it: what a cache saves as an ordinary user is complete.
    expect(await readdir(join(root, '..'))).toEqual(['root.squashfs']);
    expect((await stat(root)).mode & 0o777).toBe(0o644);
  });

  mergeTest('keeps owners, setuid bits and devices', async () => {
    const store = openStore();
    expect(await debianRoot(store, openTools(store))).toMatch(/\/root\.squashfs$/);
    await withHost({ release: '0.0.0' }, async (host) => {
      expect(await host.run(['stat', '--format=%a %U', '/usr/bin/passwd'])).toBe('4755 root');
      expect(await host.run(['stat', '--format=%U:%G', '/etc/shadow'])).toBe('root:shadow');
    });
  });
});
