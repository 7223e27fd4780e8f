import { access } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { DEBIAN_KEYRING, debianMirror, digestOf, exec, makePublic, type Store, type Tools } from '@flatcar/core/engine';
import { record } from '../ledger.ts';

/** Debian 13: systemd 257, as Flatcar stable has it. */
const SUITE = 'trixie';
// One root for all tests: systemd-sysupdate (in systemd-container), gpg, with which it verifies signatures, and the web server that it updates from.
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

/** Installs mmdebstrap if it is missing, and reports it. */
export async function ensureMmdebstrap(): Promise<void> {
  if (await installed('mmdebstrap')) return;
  console.error('installing mmdebstrap, which creates the Debian root of the tests');
  const install = 'install mmdebstrap';
  await exec('apt-get', ['update', '-qq'], { install });
  await exec('apt-get', ['install', '-y', '-qq', '--no-install-recommends', 'mmdebstrap'], {
    env: { DEBIAN_FRONTEND: 'noninteractive' },
    install,
  });
}

/** Days for which apt accepts an index: a mirror of unstable is sometimes weeks behind. */
const INDEX_DAYS = 97;

/**
 * Arguments of mmdebstrap that are the same for every Debian, on every host. Debian's keys are those of this repository: Ubuntu has none, or old
 * ones. apt reads them, and writes the root, as root: its own user cannot reach into a home folder of mode 0750.
 */
export const MMDEBSTRAP: readonly string[] = [
  '--quiet',
  '--mode=root',
  '--variant=minbase',
  `--keyring=${DEBIAN_KEYRING}`,
  '--aptopt=APT::Sandbox::User "root"',
  `--aptopt=Acquire::Min-ValidTime "${INDEX_DAYS * 86_400}"`,
];

/** What a root contains. */
export interface RootOptions {
  /** Debian's suite; `<suite>-backports` takes from there what it has. */
  readonly suite?: string;
  readonly packages?: readonly string[];
}

/**
 * A small Debian root (by default Debian 13), created once and kept in the store as one squashfs file: owners, devices and setuid bits survive a
 * cache that an ordinary user saves and restores (tar), and a change of the file's owner. Returns the path of the file.
 */
export async function debianRoot(store: Store, tools: Tools, { suite = SUITE, packages = PACKAGES }: RootOptions = {}): Promise<string> {
  const started = Date.now();
  const { dir, cached } = await store.result('test-root', digestOf({ number: 2, suite, packages }), async (fresh) => {
    await ensureMmdebstrap();
    console.error(`creating a ${suite} root for the merge tests (about a minute)`);
    const mirror = await debianMirror();
    const base = suite.replace(/-backports$/, '');
    await store.withTemp(async (temp) => {
      const root = join(temp, 'root');
      await exec('mmdebstrap', [
        ...MMDEBSTRAP,
        `--include=${packages.join(',')}`,
        ...(base === suite ? [] : [`--aptopt=APT::Default-Release "${suite}"`]),
        base,
        root,
        mirror,
        ...(base === suite ? [] : [`deb ${mirror} ${suite} main`]),
      ]);
      const file = join(fresh, 'root.squashfs');
      await tools.run('mksquashfs', [root, file, '-quiet', '-no-progress', '-comp', 'zstd', '-Xcompression-level', '3']);
      await makePublic(file);
    });
  });
  await record(`Debian ${suite}`, cached, started);
  return join(dir, 'root.squashfs');
}

/** Unpacks such a root into a new folder, for tests that run its programs without a mount. Requires root. */
export async function unpackRoot(tools: Tools, root: string, dir: string): Promise<void> {
  await tools.run('unsquashfs', ['-quiet', '-no-progress', '-d', dir, root]);
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
