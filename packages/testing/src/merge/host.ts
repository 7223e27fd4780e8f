import { randomBytes } from 'node:crypto';
import { access, copyFile, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { exec, linkFolder, openStore, openTools, type Arch } from '@flatcar/core/engine';
import { execa } from 'execa';
import type { Host } from '../hosts.ts';
import { debianRoot, osRelease, type RootOptions } from './root.ts';

/** Policy for a kernel without a device mapper, which cannot set up verity: the data of a disk image is merged without it. */
export const WITHOUT_VERITY = 'root=unprotected+absent:usr=absent';

/** Where the programs of a host are. */
const HOST_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

// A private copy of the mounts, shared within itself: systemd-sysext merges in a namespace of its own and moves the result here.
// Only the mount below the root is not shared, because pivot_root, and so every container runtime, would refuse it (pivot_root(2)).
const SETUP = `
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/lower" "$1/upper" "$1/work" "$1/root"
mount -t squashfs -o loop,ro "$2" "$1/lower"
mount -t overlay overlay -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /sys "$1/root/sys"
mount --rbind /dev "$1/root/dev"
mount --make-rshared /
mount --make-private "$1"
mount -t tmpfs tmpfs "$1/root/run"
mount --make-shared "$1/root/run"
echo ready
exec cat
`;

/** Starts a host, and removes all its mounts afterwards, whatever happened. It merges sysexts by default, confexts if `kind` is `confext`. */
export async function withHost(
  options: { release: string; kind?: 'sysext' | 'confext'; root?: RootOptions },
  use: (host: Host) => Promise<void>,
): Promise<void> {
  const store = openStore();
  const lower = await debianRoot(store, openTools(store), options.root);
  await store.withTemp(async (work) => {
    // `cat` ends when this process does, and with it the namespace and all its mounts.
    const anchor = execa('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', SETUP, 'sh', work, lower], {
      stdin: 'pipe',
      reject: false,
    });
    try {
      await new Promise<void>((resolve, reject) => {
        anchor.stdout.once('data', () => resolve());
        void anchor.then(({ stderr }) => reject(new Error(`cannot set up the namespace: ${stderr}`)));
      });
      const { pid } = anchor;
      if (pid === undefined) throw new Error('unshare did not start');
      const host = hostIn(String(pid), join(work, 'root'), options.kind ?? 'sysext');
      await host.setRelease(options.release);
      await use(host);
    } finally {
      anchor.stdin.end();
      await anchor;
    }
  });
}

function hostIn(pid: string, root: string, kind: 'sysext' | 'confext'): Host {
  const inside = `/proc/${pid}/root${root}`;
  const enter = (command: readonly string[]): Promise<string> => exec('nsenter', ['--target', pid, '--mount', '--', ...command]);
  const commandLine = (command: readonly string[]): string[] => ['nsenter', '--target', pid, '--mount', '--', 'chroot', root, ...command];
  /** Runs a command in the root and returns both outputs, whatever the exit code. */
  const say = async (command: readonly string[]): Promise<string> => {
    const [program = '', ...args] = commandLine(command);
    const { all } = await execa(program, args, {
      all: true,
      reject: false,
      stdin: 'ignore', // what asks for more must not wait for it
      // Nothing of this machine's own: a variable such as SSL_CERT_FILE would hide what an image lacks.
      extendEnv: false,
      env: { PATH: HOST_PATH, HOME: '/root', LC_ALL: 'C', SYSTEMD_LOG_LEVEL: 'info' },
    });
    return all;
  };

  const host: Host = {
    path: inside,
    commandLine,
    async install(image, link) {
      const name = `${randomBytes(3).toString('hex')}-${basename(image)}`;
      const folder = '/opt/extensions';
      await mkdir(join(inside, folder), { recursive: true });
      await mkdir(join(inside, linkFolder(kind)), { recursive: true });
      await writeFile(join(inside, folder, name), '');
      await enter(['mount', '--bind', image, join(root, folder, name)]);
      await rm(join(inside, linkFolder(kind), link), { force: true });
      await symlink(`${folder}/${name}`, join(inside, linkFolder(kind), link));
    },
    remove: (link) => rm(join(inside, linkFolder(kind), link)),
    merge: ({ force = false, policy } = {}) =>
      say([
        `systemd-${kind}`,
        'refresh',
        '--no-reload',
        ...(force ? ['--force'] : []),
        ...(policy === undefined ? [] : [`--image-policy=${policy}`]),
      ]),
    unmerge: () => say([`systemd-${kind}`, 'unmerge', '--no-reload']),
    async run(command, { arch, env = {} } = {}) {
      const native = arch === undefined || arch === (process.arch === 'arm64' ? 'arm64' : 'x86-64');
      const [program = '', ...args] = command;
      // qemu-user does not search PATH.
      const start = native ? [program] : [await emulatorFor(arch, inside), program.includes('/') ? program : `/usr/bin/${program}`];
      return say(['env', ...Object.entries(env).map(([key, value]) => `${key}=${value}`), ...start, ...args]);
    },
    copyOut: (path, to) => copyFile(join(inside, path), to),
    copyIn: (from, path) => copyFile(from, join(inside, path)),
    async share(from, path) {
      await mkdir(join(inside, path), { recursive: true });
      await enter(['mount', '--bind', from, join(root, path)]);
    },
    exists: (path) =>
      enter(['chroot', root, 'test', '-e', path]).then(
        () => true,
        () => false,
      ),
    async setRelease(release) {
      if (kind === 'confext') await host.unmerge(); // os-release is in /etc here
      await rm(join(inside, 'etc/os-release'), { force: true });
      await writeFile(join(inside, 'etc/os-release'), osRelease(release));
    },
  };
  return host;
}

/** Installs the pinned static qemu-user in a folder that no merge covers; returns its path. */
async function emulatorFor(arch: Arch, inside: string): Promise<string> {
  const tool = arch === 'arm64' ? 'qemu-aarch64' : 'qemu-x86_64';
  const path = join(inside, 'run', tool);
  if (
    !(await access(path).then(
      () => true,
      () => false,
    ))
  ) {
    const { command } = await openTools(openStore()).command(tool);
    await writeFile(path, await readFile(command), { mode: 0o755 });
  }
  return `/run/${tool}`;
}
