import { readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  HttpStatusError,
  archWords,
  digestOf,
  fetchNew,
  parseJson,
  UserError,
  type Arch,
  type Release,
  type Store,
  type Tools,
} from '@flatcar/core/engine';
import { verifyDetached } from '@flatcar/upstream';
import * as v from 'valibot';
import type { Boot, BootOptions } from './boot.ts';
import { ignitionArgs } from './ignition.ts';
import type { Seed } from './seed.ts';

/** A server of images, and the key that must have signed them. */
export interface ImageServer {
  /** URL of the folder of a release's files. */
  readonly folder: (release: Release, board: string) => string;
  /** URL of the public key. */
  readonly key: string;
  /** Whole fingerprint of its primary key. */
  readonly fingerprint: string;
}

/** Flatcar's release servers and its image signing key (https://www.flatcar.org/security/image-signing-key/). */
export const OFFICIAL: ImageServer = {
  folder: ({ channel, number }, board) => `https://${channel}.release.flatcar-linux.net/${board}/${number}`,
  key: 'https://www.flatcar.org/security/image-signing-key/Flatcar_Image_Signing_Key.asc',
  fingerprint: 'F88CFEDEFF29A5B4D9523864E25D9AED0593B34A',
};

/** The image for QEMU by architecture (flatcar/scripts, build_library/vm_image_util.sh: get_default_vm_type). */
const NAMES: Readonly<Record<Arch, string>> = {
  'x86-64': 'flatcar_production_qemu_image.img',
  arm64: 'flatcar_production_qemu_uefi_image.img',
};

/** Room for what a test writes; Flatcar grows its root on the first boot. */
const DISK_SIZE = '16G';

/** Suffixes of the packed image; not every release has an unpacked one. */
const PACKED = ['', '.bz2'] as const;

async function textOf(store: Store, url: string): Promise<Buffer> {
  const { path } = await fetchNew(store, url, { max: 1 << 20 });
  return readFile(path);
}

/** The signature of the first packing that the server has. */
async function findImage(store: Store, plain: string): Promise<{ url: string; packed: (typeof PACKED)[number]; signature: Buffer }> {
  for (const packed of PACKED) {
    const url = plain + packed;
    try {
      return { url, packed, signature: await textOf(store, `${url}.sig`) };
    } catch (error) {
      if (!(error instanceof HttpStatusError) || error.status !== 404) throw error;
    }
  }
  throw new UserError('the release server has no signed image for QEMU', {
    where: plain,
    next: 'look into the folder of that release, or pass an image that you have: --os PATH',
  });
}

/**
 * The disk image of a Flatcar release, fetched and checked by the key's signature once, then kept in the store.
 * Throws UnreachableError if the server cannot be reached, UserError if the signature of an image is not valid.
 */
export async function flatcarImage(
  store: Store,
  tools: Tools,
  release: Release,
  arch: Arch,
  server: ImageServer = OFFICIAL,
): Promise<string> {
  const folder = server.folder(release, archWords(arch).board);
  const inputs = { number: 1, url: `${folder}/${NAMES[arch]}`, fingerprint: server.fingerprint };
  const { dir } = await store.result('flatcar-image', digestOf(inputs), async (fresh) => {
    const { url, packed, signature } = await findImage(store, inputs.url);
    const signers = { keys: await textOf(store, server.key), fingerprints: [server.fingerprint], where: server.key };
    console.error(`fetching ${url} (some hundred MB)`);
    // A published name never changes its bytes, and the signature is of all of them: what an earlier attempt left is worth keeping.
    const { path } = await fetchNew(store, url, { max: 8 * 2 ** 30, resume: true });
    try {
      await verifyDetached(await readFile(path), signature, signers, url);
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
    await rename(path, join(fresh, `image${packed}`));
    if (packed === '.bz2') await tools.run('bzip2', ['-d', join(fresh, `image${packed}`)]);
  });
  return join(dir, 'image');
}

/** What Flatcar's console shows once its kernel runs. */
const RUNS = /Run \S+ as init process|systemd\[1\]: /;

/** The format of a disk image, as QEMU names it. */
async function formatOf(tools: Tools, image: string): Promise<string> {
  const text = await tools.run('qemu-img', ['info', '--output=json', image]);
  return parseJson(v.looseObject({ format: v.string() }), text, { what: 'output of qemu-img', where: image }).format;
}

/** A Flatcar image, ready to boot by its own boot loader; Ignition applies the seed. */
export async function flatcarBoot(tools: Tools, image: string, seed: Seed, { release, network, temp }: BootOptions): Promise<Boot> {
  const format = await formatOf(tools, image).catch((cause: unknown) => {
    throw new UserError('not a disk image', { where: image, next: 'pass an unpacked .img of Flatcar for QEMU', cause });
  });
  const disk = join(temp, 'disk');
  await tools.run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', image, '-F', format, disk, DISK_SIZE]);
  const ignition = await ignitionArgs(seed, temp, network);
  const drive = ['-drive', `if=none,id=disk,file=${disk},format=qcow2,cache=unsafe`];
  const start = [...drive, '-device', 'virtio-blk-pci,drive=disk,bootindex=1'];
  return {
    probe: { args: [...start, '-snapshot'], shows: RUNS },
    firmware: true,
    async args(next) {
      if (next !== release) throw new Error(`Flatcar ${release.number} becomes ${next.number} by its own update only`);
      return [...start, ...ignition.args];
    },
    [Symbol.asyncDispose]: () => ignition[Symbol.asyncDispose](),
  };
}
