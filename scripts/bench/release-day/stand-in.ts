// Stand-ins for payloads that the store does not have: the size and the number of files of the real ones, and their claims, without compiling.
import { createCipheriv, createHash } from 'node:crypto';
import { mkdir, open, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import {
  hashFile,
  packErofs,
  packSquashfs,
  readTree,
  stageReleaseFile,
  type PackedPayload,
  type PayloadClaims,
  type Tools,
} from '@flatcar/core/engine';

/** The size of an extension's payloads. */
export interface PayloadSize {
  /** Of the squashfs payload, in MiB. */
  readonly packed: number;
  readonly entries: number;
  /** Modules in its programs, which its SBOM lists. */
  readonly modules: number;
}

/** Sizes of the payloads as they were built in November 2026. */
const MEASURED: Readonly<Record<string, PayloadSize>> = {
  bird: { packed: 5, entries: 119, modules: 18 },
  btop: { packed: 3, entries: 124, modules: 5 },
  chrony: { packed: 5, entries: 181, modules: 20 },
  'cni-plugins': { packed: 24, entries: 25, modules: 25 },
  containerd: { packed: 26, entries: 23, modules: 141 },
  'debug-tools': { packed: 45, entries: 4504, modules: 151 },
  'extension-stager': { packed: 0.01, entries: 15, modules: 0 },
  git: { packed: 20, entries: 363, modules: 42 },
  haproxy: { packed: 8, entries: 116, modules: 15 },
  hardening: { packed: 0.01, entries: 15, modules: 0 },
  'hypervisor-binfmt': { packed: 17, entries: 33, modules: 1 },
  'hypervisor-qemu': { packed: 42, entries: 356, modules: 83 },
  kubernetes: { packed: 79, entries: 44, modules: 237 },
  lldpd: { packed: 8, entries: 187, modules: 24 },
  nebula: { packed: 7, entries: 19, modules: 4 },
  'node-exporter': { packed: 5, entries: 11, modules: 48 },
  restic: { packed: 7, entries: 13, modules: 4 },
  ripgrep: { packed: 3, entries: 14, modules: 4 },
  sssd: { packed: 29, entries: 360, modules: 76 },
  tailscale: { packed: 16, entries: 14, modules: 94 },
  yq: { packed: 5, entries: 6, modules: 28 },
};
/** Estimates, from upstream's archives and from payloads of the profile `fast`, rather too large. */
const ESTIMATED: Readonly<Record<string, PayloadSize>> = {
  caddy: { packed: 11, entries: 20, modules: 150 },
  crun: { packed: 2, entries: 8, modules: 0 },
  docker: { packed: 98, entries: 38, modules: 485 },
  'docker-engine': { packed: 69, entries: 22, modules: 400 },
  gvisor: { packed: 40, entries: 26, modules: 0 },
  hypervisor: { packed: 190, entries: 480, modules: 250 },
  'hypervisor-cloud-hypervisor': { packed: 5, entries: 10, modules: 150 },
  'hypervisor-kata': { packed: 120, entries: 60, modules: 0 },
  nerdctl: { packed: 33, entries: 32, modules: 200 },
  podman: { packed: 35, entries: 30, modules: 0 },
  'wasm-shims': { packed: 45, entries: 15, modules: 800 },
  youki: { packed: 3, entries: 8, modules: 250 },
};
/** Of an extension that is in neither list: about the median. */
const OTHER: PayloadSize = { packed: 10, entries: 100, modules: 30 };
/** Bytes of an erofs payload (lz4) for each byte of a squashfs payload (zstd) of the same programs. */
const EROFS_FACTOR = 1.4;
const CHUNK = 1 << 20;

/** Writes bytes that nothing compresses, so that the packed file is as large as its content, and that only `seed` decides. */
async function writeNoise(file: string, size: number, seed: string): Promise<void> {
  const noise = createCipheriv('aes-256-ctr', createHash('sha256').update(seed).digest(), Buffer.alloc(16));
  const zeros = Buffer.alloc(CHUNK);
  const handle = await open(file, 'wx', 0o755);
  try {
    for (let left = size; left > 0; left -= CHUNK) await handle.write(noise.update(zeros.subarray(0, Math.min(CHUNK, left))));
  } finally {
    await handle.close();
  }
}

/** Makes a stand-in for a payload in a folder. Its record has the claims of the real one. */
export async function makeStandIn(tools: Tools, claims: PayloadClaims, size: PayloadSize, dir: string): Promise<PackedPayload> {
  const { extension: name, kind, version, arch, format } = claims;
  const tree = join(dir, 'tree');
  const folder = `${kind === 'sysext' ? 'usr/lib' : 'etc'}/${name}`;
  await mkdir(join(tree, folder), { recursive: true, mode: 0o755 });
  const count = Math.max(1, size.entries - folder.split('/').length - 2);
  const bytes = Math.round((size.packed * 2 ** 20 * (format === 'ddi' ? EROFS_FACTOR : 1)) / count);
  const paths = Array.from({ length: count }, (_, index) => `${folder}/${index}`);
  for (const path of paths) await writeNoise(join(tree, path), bytes, `${claims.key} ${path}`);
  await stageReleaseFile(tree, { name, kind, version, arch, target: 'portable', reload: true });
  const owner = claims.components[0]?.name ?? name;
  const staged = await readTree(tree, new Map(paths.map((path) => [path, owner])));
  const file = join(dir, `payload.${format}`);
  const pack = format === 'squashfs' ? packSquashfs : packErofs;
  const { releaseFileOffset } = await pack(tools, staged, { name, kind, profile: 'fast' }, file);
  await rm(tree, { recursive: true });
  const modules = Array.from({ length: size.modules }, (_, index) => ({
    type: 'golang',
    name: `example.org/stand-in/module-${index}`,
    version: 'v1.0.0',
    paths: paths.slice(0, 1),
  }));
  const packed = { file: basename(file), sha256: await hashFile(file), size: (await stat(file)).size, releaseFileOffset };
  const payload = {
    ...claims,
    ...packed,
    reload: true,
    tree: { digest: staged.digest, entries: staged.entries },
    needs: { systemd: '252', libraries: [] },
    modules,
  };
  return { payload, file: join(dirname(file), packed.file) };
}

/** The size of an extension's stand-in. */
export const sizeOf = (name: string): PayloadSize => MEASURED[name] ?? ESTIMATED[name] ?? OTHER;
