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

type Kind = 'sysext' | 'confext';

/** Starts a host, and removes all its mounts afterwards, whatever happened. It merges sysexts by default, confexts if `kind` is `confext`. */
export async function withHost(
  options: { release: string; kind?: Kind; root?: RootOptions },
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
      const host = new NamespaceHost(pid, join(work, 'root'), options.kind ?? 'sysext');
      await host.setRelease(options.release);
      await use(host);
    } finally {
      anchor.stdin.end();
      await anchor;
    }
  });
}

/** A host in the mount namespace of a process. */
class NamespaceHost implements Host {
  readonly path: string;
  readonly #pid: string;
  readonly #root: string;
  readonly #kind: Kind;

  constructor(pid: number, root: string, kind: Kind) {
    this.#pid = String(pid);
    this.#root = root;
    this.#kind = kind;
    this.path = `/proc/${pid}/root${root}`;
  }

  /** The command line that runs a command in the namespace. */
  #entering(command: readonly string[]): string[] {
    return ['nsenter', '--target', this.#pid, '--mount', '--', ...command];
  }

  async #enter(command: readonly string[]): Promise<string> {
    const [program = '', ...args] = this.#entering(command);
    return exec(program, args);
  }

  /** The folder of links to images, as this process sees it. */
  get #links(): string {
    return join(this.path, linkFolder(this.#kind));
  }

  commandLine(command: readonly string[]): string[] {
    return this.#entering(['chroot', this.#root, ...command]);
  }

  /** Runs a command in the root and returns both outputs, whatever the exit code. */
  async #say(command: readonly string[]): Promise<string> {
    const [program = '', ...args] = this.commandLine(command);
    const { all } = await execa(program, args, {
      all: true,
      reject: false,
      stdin: 'ignore', // what asks for more must not wait for it
      // Nothing of this machine's own: a variable such as SSL_CERT_FILE would hide what an image lacks.
      extendEnv: false,
      env: { PATH: HOST_PATH, HOME: '/root', LC_ALL: 'C', SYSTEMD_LOG_LEVEL: 'info' },
    });
    return all;
  }

  async install(image: string, link: string): Promise<void> {
    const name = `${randomBytes(3).toString('hex')}-${basename(image)}`;
    const folder = '/opt/extensions';
    await mkdir(join(this.path, folder), { recursive: true });
    await mkdir(this.#links, { recursive: true });
    await writeFile(join(this.path, folder, name), '');
    await this.#enter(['mount', '--bind', image, join(this.#root, folder, name)]);
    await rm(join(this.#links, link), { force: true });
    await symlink(`${folder}/${name}`, join(this.#links, link));
  }

  async remove(link: string): Promise<void> {
    await rm(join(this.#links, link));
  }

  async merge({ force = false, policy }: { force?: boolean; policy?: string } = {}): Promise<string> {
    const options = [...(force ? ['--force'] : []), ...(policy === undefined ? [] : [`--image-policy=${policy}`])];
    return this.#say([`systemd-${this.#kind}`, 'refresh', '--no-reload', ...options]);
  }

  async unmerge(): Promise<string> {
    return this.#say([`systemd-${this.#kind}`, 'unmerge', '--no-reload']);
  }

  async run(command: readonly string[], { arch, env = {} }: { arch?: Arch; env?: Readonly<Record<string, string>> } = {}): Promise<string> {
    const native = arch === undefined || arch === (process.arch === 'arm64' ? 'arm64' : 'x86-64');
    const [program = '', ...args] = command;
    // qemu-user does not search PATH.
    const start = native ? [program] : [await emulatorFor(arch, this.path), program.includes('/') ? program : `/usr/bin/${program}`];
    return this.#say(['env', ...Object.entries(env).map(([key, value]) => `${key}=${value}`), ...start, ...args]);
  }

  async copyOut(path: string, to: string): Promise<void> {
    await copyFile(join(this.path, path), to);
  }

  async copyIn(from: string, path: string): Promise<void> {
    await copyFile(from, join(this.path, path));
  }

  async share(from: string, path: string): Promise<void> {
    await mkdir(join(this.path, path), { recursive: true });
    await this.#enter(['mount', '--bind', from, join(this.#root, path)]);
  }

  async exists(path: string): Promise<boolean> {
    return this.#enter(['chroot', this.#root, 'test', '-e', path]).then(
      () => true,
      () => false,
    );
  }

  async setRelease(release: string): Promise<void> {
    if (this.#kind === 'confext') await this.unmerge(); // os-release is in /etc here
    await rm(join(this.path, 'etc/os-release'), { force: true });
    await writeFile(join(this.path, 'etc/os-release'), osRelease(release));
  }
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
