import { access } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { debianMirror, digestOf, exec, type Store } from '@flatcar/core';
import { record } from './ledger.ts';

/** Debian 13: systemd 257, as Flatcar stable has it. */
const SUITE = 'trixie';
// One root for all tests: systemd-sysupdate (in systemd-container) and what it checks signatures by, and the web server that it updates from.
const PACKAGES = ['systemd', 'systemd-container', 'kmod', 'procps', 'dbus', 'gpg', 'gpgv', 'nginx'];

async function installed(program: string): Promise<boolean> {
  const found = await Promise.all(
    (process.env['PATH'] ?? '').split(delimiter).map((dir) =>
      access(join(dir, program)).then(
        () => true,
        () => false,
      ),
    ),
  );
  return found.includes(true);
}

/** Installs mmdebstrap where it is missing; says so. */
export async function ensureMmdebstrap(): Promise<void> {
  if (await installed('mmdebstrap')) return;
  console.error('installing mmdebstrap, which makes the Debian that the tests stand on');
  await exec('apt-get', ['update', '-qq']);
  await exec('apt-get', ['install', '-y', '-qq', '--no-install-recommends', 'mmdebstrap'], { env: { DEBIAN_FRONTEND: 'noninteractive' } });
}

/** What a root is made of. */
export interface RootOptions {
  /** Debian's suite; `<suite>-backports` takes from there what it has. */
  readonly suite?: string;
  readonly packages?: readonly string[];
}

/** A small Debian root, made once and kept in the store; nothing ever writes into it. Debian 13 unless another suite is named. */
export async function debianRoot(store: Store, { suite = SUITE, packages = PACKAGES }: RootOptions = {}): Promise<string> {
  const started = Date.now();
  const { dir, cached } = await store.result('test-root', digestOf({ number: 1, suite, packages }), async (fresh) => {
    await ensureMmdebstrap();
    console.error(`making a ${suite} root for the merge tests (about a minute)`);
    const mirror = await debianMirror();
    const base = suite.replace(/-backports$/, '');
    await exec('mmdebstrap', [
      '--quiet',
      '--mode=root',
      '--variant=minbase',
      `--include=${packages.join(',')}`,
      // A mirror of unstable may be some days behind.
      ...(suite === 'sid' ? ['--aptopt=Acquire::Check-Valid-Until "false"'] : []),
      ...(base === suite ? [] : [`--aptopt=APT::Default-Release "${suite}"`]),
      base,
      join(fresh, 'root'),
      mirror,
      ...(base === suite ? [] : [`deb ${mirror} ${suite} main`]),
    ]);
  });
  await record(`Debian ${suite}`, cached, started);
  return join(dir, 'root');
}

/** os-release as Flatcar has it (flatcar/scripts, build_library/set_lsb_release); SYSEXT_LEVEL is the trap of rule 3. */
export const osRelease = (release: string): string =>
  [
    'NAME="Flatcar Container Linux by Kinvolk"',
    'ID=flatcar',
    'ID_LIKE=coreos',
    `VERSION=${release}`,
    `VERSION_ID=${release}`,
    'SYSEXT_LEVEL=1.0',
    '',
  ].join('\n');
