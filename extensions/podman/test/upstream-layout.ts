import type { Layouts } from '@flatcar/testing';

const MEMBERS = [
  ...['containers.conf', 'policy.json', 'registries.conf', 'storage.conf'].map((name) => `etc/containers/${name}`),
  ...['podman', 'crun', 'runc', 'pasta', 'pasta.avx2', 'fuse-overlayfs', 'fusermount3'].map((name) => `usr/local/bin/${name}`),
  ...['conmon', 'netavark', 'aardvark-dns', 'catatonit', 'rootlessport'].map((name) => `usr/local/lib/podman/${name}`),
  'usr/local/libexec/podman/quadlet',
  ...['system/podman.service', 'system/podman.socket', 'user/podman.service'].map((name) => `usr/local/lib/systemd/${name}`),
];

const layouts: Layouts = ['amd64', 'arm64'].map((arch) => [
  new RegExp(`^podman-linux-${arch}`),
  MEMBERS.map((path) => `podman-linux-${arch}/${path}`),
]);
export default layouts;
