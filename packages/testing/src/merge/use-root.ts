import { chmod, cp, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { channelHead, hostArch, linkName, openStore, openTools, readElf, walk, type Image } from '@flatcar/core/engine';
import { execa } from 'execa';
import type { Host, TlsHost, UseRoot, UseRootName } from '../hosts.ts';
import { withTls } from '../server/tls.ts';
import { withHost } from './host.ts';

/** What to merge over which root. */
export interface UseRootOptions {
  readonly name: UseRootName;
  /** A portable image. */
  readonly image: Image;
  /** Portable images of the extensions that it requires, for the same architecture. */
  readonly beside?: readonly Image[];
  readonly packages?: readonly string[];
}

/** Time limit of a script in milliseconds: emulated programs are slow on a busy machine. */
const LIMIT = 300_000;
/** Folder of the bare root in the Debian root, which has the tools that mount it. */
const BARE = '/run/bare';

/** A bare root below the Debian one: the image's usr (and wrappers of `$2`, for programs of another architecture) over busybox's and bash. */
const MAKE_BARE = `
set -e
mkdir -p /run/bare.usr/bin
for folder in usr dev sys proc run/tls tmp var root etc; do mkdir -p "${BARE}/$folder"; done
cp -a /etc/ssl ${BARE}/etc/
mount --bind /run/tls ${BARE}/run/tls
cp /usr/bin/busybox /run/bare.usr/bin/
for applet in $(busybox --list); do [ "$applet" = busybox ] || ln -s busybox "/run/bare.usr/bin/$applet"; done
# The shell of busybox would prefer its own applets to programs of the image.
cp /usr/bin/bash-static /run/bare.usr/bin/bash
ln -sf bash /run/bare.usr/bin/sh
for folder in bin sbin; do ln -s usr/bin "${BARE}/$folder"; done
for folder in lib lib64; do ln -s "usr/$folder" "${BARE}/$folder"; done
echo 'root:x:0:0:root:/root:/bin/sh' >${BARE}/etc/passwd
echo 'root:x:0:' >${BARE}/etc/group
echo '127.0.0.1 localhost' >${BARE}/etc/hosts
chmod 1777 ${BARE}/tmp
for file in "$@"; do
  folder="${BARE}/$(basename "$file" .raw)"
  mkdir "$folder"
  mount -o loop,ro "$file" "$folder"
done
mount --rbind /dev ${BARE}/dev
mount --rbind /sys ${BARE}/sys
`;
const MERGE_BARE = `mount -t overlay overlay -o "lowerdir=$1" ${BARE}/usr`;

/** A private /proc, and the root's own programs only. */
const ENTER = `
set -e
mount -t proc proc "$1/proc"
shift
exec chroot "$@"
`;

/** Writes scripts in place of an image's programs, which run them by qemu-user, so that programs which others start are emulated too. `folder` is the image's in the root. */
async function writeWrappers(image: string, folder: string, wrappers: string, emulator: string): Promise<void> {
  for (const entry of await walk(image)) {
    if (entry.type !== 'file') continue;
    const path = `/${entry.path}`;
    const elf = await readElf(join(image, path));
    if (elf === undefined || (elf.type === 'shared' && elf.interpreter === undefined)) continue;
    if (/\.so(?:\.|$)/.test(entry.name)) continue; // libraries that can be started
    const wrapper = join(wrappers, path);
    await mkdir(dirname(wrapper), { recursive: true });
    await writeFile(wrapper, `#!/bin/sh\nexec ${emulator} -0 "$0" "/${folder}/usr${path}" "$@"\n`);
    await chmod(wrapper, 0o755);
  }
}

/** Creates the bare root on a host; returns its folder as this process sees it. */
async function makeBare(host: Host, { image, beside = [], name }: UseRootOptions): Promise<string> {
  const images = [image, ...beside].map(({ file }, index) => ({ file, folder: `image${index === 0 ? '' : index}` }));
  for (const { file, folder } of images) await host.install(file, `${folder}.raw`);
  const made = await host.run(['sh', '-c', MAKE_BARE, 'sh', ...images.map(({ folder }) => `/etc/extensions/${folder}.raw`)]);
  if (made !== '') throw new Error(`cannot create the bare root: ${made}`);
  const path = host.path + BARE;
  const layers = [...images.map(({ folder }) => `${BARE}/${folder}/usr`), '/run/bare.usr'];
  if (name === 'emulated') {
    const { command } = await openTools(openStore()).command(hostArch() === 'x86-64' ? 'qemu-aarch64' : 'qemu-x86_64');
    await cp(command, join(path, 'run/emulator'));
    for (const { folder } of images)
      await writeWrappers(`${path}/${folder}/usr`, folder, `${host.path}/run/bare.wrappers`, '/run/emulator');
    layers.unshift('/run/bare.wrappers');
  }
  const merged = await host.run(['sh', '-c', MERGE_BARE, 'sh', layers.join(':')]);
  if (merged !== '') throw new Error(`cannot merge the image over the bare root: ${merged}`);
  return path;
}

/** Merges an image over a root while `use` runs. */
export async function withUseRoot(options: UseRootOptions, use: (root: UseRoot) => Promise<void>): Promise<void> {
  const { name, image, beside = [], packages = [] } = options;
  await withHost(
    { release: channelHead('stable').number, root: { packages: ['systemd', 'busybox-static', 'bash-static', ...packages] } },
    (host) =>
      withTls(host, async (tls) => {
        if (name !== 'debian') return use(rootOf(host, tls, { name, path: await makeBare(host, options), root: BARE, PATH: '/usr/bin' }));
        const images = [image, ...beside];
        for (const { file, extension } of images) await host.install(file, linkName(extension, 'portable'));
        const said = await host.merge();
        const using = said.split('\n').find((line) => line.includes('Using extensions')) ?? '';
        if (!images.every(({ extension }) => using.includes(`'${extension}`))) throw new Error(`the images were not merged: ${said}`);
        await use(rootOf(host, tls, { name, path: host.path, root: '', PATH: '/usr/bin:/usr/sbin' }));
      }),
  );
}

/** A root in the folder `root` of a host. */
function rootOf(
  host: Host,
  tls: TlsHost,
  { root, PATH, ...named }: { name: UseRootName; path: string; root: string; PATH: string },
): UseRoot {
  const command = (script: string, env: Readonly<Record<string, string>>): [string, string[]] => {
    const set = Object.entries({ PATH, HOME: '/root', TERM: 'xterm', ...env }).map(([key, value]) => `${key}=${value}`);
    const enter = ['unshare', '--mount', '--pid', '--fork', '--kill-child', 'sh', '-c', ENTER, 'sh', root, root === '' ? '/' : root];
    const shell = ['env', '-i', ...set, '/bin/sh', '-ec', 'cd "$(mktemp -d)"; eval "$1"', 'sh', script];
    const [program = '', ...args] = host.commandLine([...enter, ...shell]);
    return [program, args];
  };
  const settings = { all: true, reject: false, stdin: 'ignore', killSignal: 'SIGKILL' } as const;
  return {
    ...named,
    tls,
    host,
    folder: root === '' ? '/' : root,
    async run(script, env = {}) {
      const { all, exitCode, timedOut } = await execa(...command(script, env), { ...settings, timeout: LIMIT });
      if (timedOut) throw new Error(`the script took more than ${LIMIT / 1000} seconds: ${all}`);
      return { said: all.trim(), exitCode };
    },
    start(script, env = {}) {
      const child = execa(...command(script, env), settings);
      return {
        async stop() {
          child.kill();
          return (await child).all;
        },
      };
    },
  };
}
