// Stand-ins for the extensions that Flatcar has built in: docker-flatcar and containerd-flatcar.
import { chmod, copyFile, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { hostArch, openArchive, openStore, openTools, unpackPackage, type DebianPackage } from '@flatcar/core/engine';

/** As Flatcar ships it (flatcar/scripts, coreos/sysext/containerd): version 2, and no imports. */
export const CONFIG = `version = 2

# persistent data location
root = "/var/lib/containerd"
# runtime state information
state = "/run/containerd"
# set containerd's OOM score
oom_score = -999
disabled_plugins = []

# grpc configuration
[grpc]
address = "/run/containerd/containerd.sock"
# socket uid
uid = 0
# socket gid
gid = 0

[plugins."io.containerd.grpc.v1.cri"]
# enable SELinux labeling
enable_selinux = true

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
# setting runc.options unsets parent settings
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = true
`;

/** The files of a built-in extension: their text, or a file of this machine. */
export interface BuiltIn {
  readonly name: 'docker-flatcar' | 'containerd-flatcar';
  readonly programs: readonly string[];
  readonly units: Readonly<Record<string, string>>;
  readonly files?: Readonly<Record<string, { readonly text: string } | { readonly from: string }>>;
}

const service = (name: string, exec: string): string => `[Unit]\nDescription=${name} of Flatcar\n[Service]\nExecStart=${exec}\n`;

export const CONTAINERD_FLATCAR: BuiltIn = {
  name: 'containerd-flatcar',
  programs: ['containerd', 'containerd-shim-runc-v2', 'ctr', 'runc'],
  units: {
    'containerd.service': service('containerd', '/usr/bin/containerd --config ${CONTAINERD_CONFIG}').replace(
      '[Service]\n',
      '[Service]\nEnvironment=CONTAINERD_CONFIG=/usr/share/containerd/config.toml\n',
    ),
    'multi-user.target.d/10-containerd-service.conf': '[Unit]\nUpholds=containerd.service\n',
  },
  files: { 'usr/share/containerd/config.toml': { text: CONFIG } },
};

export const DOCKER_FLATCAR: BuiltIn = {
  name: 'docker-flatcar',
  programs: ['docker', 'dockerd', 'docker-proxy', 'docker-init'],
  units: {
    'docker.service': service('docker', '/usr/bin/dockerd --host=fd://'),
    'docker.socket': '[Socket]\nListenStream=/run/docker.sock\n',
    'sockets.target.d/10-docker-socket.conf': '[Unit]\nUpholds=docker.socket\n',
  },
};

/** Packs one as Flatcar does up to 4593, though quickly: a bare squashfs, bound to the release (build_sysext of flatcar/scripts). */
export async function packBuiltIn(builtIn: BuiltIn, release: string, out: string): Promise<void> {
  const store = openStore();
  await store.withTemp(async (temp) => {
    const put = async (path: string, content: string, mode = 0o644): Promise<void> => {
      await mkdir(dirname(join(temp, path)), { recursive: true });
      await writeFile(join(temp, path), content);
      await chmod(join(temp, path), mode);
    };
    for (const name of builtIn.programs) await put(`usr/bin/${name}`, `#!/bin/sh\necho ${name} of Flatcar\n`, 0o755);
    for (const [name, text] of Object.entries(builtIn.units)) await put(`usr/lib/systemd/system/${name}`, text);
    for (const [path, file] of Object.entries(builtIn.files ?? {})) {
      await put(path, 'text' in file ? file.text : '', 'text' in file ? 0o644 : 0o755);
      if ('from' in file) await copyFile(file.from, join(temp, path));
    }
    await put(
      `usr/lib/extension-release.d/extension-release.${builtIn.name}`,
      `ID=flatcar\nVERSION_ID=${release}\nARCHITECTURE=${hostArch()}\n`,
    );
    await openTools(store).run('mksquashfs', [
      temp,
      out,
      '-noappend',
      '-no-progress',
      '-quiet',
      '-all-root',
      '-comp',
      'zstd',
      '-Xcompression-level',
      '1',
    ]);
  });
}

/** Debian 13's containerd, which is of the branch that LTS 4081 has (1.7.21). */
const CONTAINERD_1_7: Readonly<Record<'x86-64' | 'arm64', DebianPackage>> = {
  'x86-64': {
    name: 'containerd',
    version: '1.7.24~ds1-6+deb13u1',
    path: 'pool/main/c/containerd/containerd_1.7.24~ds1-6+deb13u1_amd64.deb',
    sha256: 'ed708deb96fe476a3bce4efa5c0538dfbcf717ab9a7c7944ba7260342c25899c',
    size: 32_784_720,
  },
  arm64: {
    name: 'containerd',
    version: '1.7.24~ds1-6+deb13u1',
    path: 'pool/main/c/containerd/containerd_1.7.24~ds1-6+deb13u1_arm64.deb',
    sha256: '4af6b5a85498cc590eaf48d34c5c6c952ddabadae0afd6a9d2931d6a05782bc9',
    size: 19_686_644,
  },
};

/** Gives `use` the path of a containerd 1.7. */
export async function withContainerd17(use: (program: string) => Promise<void>): Promise<void> {
  const store = openStore();
  const arch = hostArch();
  const { file } = await openArchive(store).fetch(CONTAINERD_1_7[arch], { suite: 'trixie', snapshot: '20261120T000000Z', arch });
  await store.withTemp(async (temp) => {
    await unpackPackage(file, temp);
    await use(join(temp, 'usr/bin/containerd'));
  });
}
