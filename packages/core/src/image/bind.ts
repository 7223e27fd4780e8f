import { constants } from 'node:fs';
import { access, chmod, lstat, open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDdi, PARTITION_TYPES, readPartitions, type Partition, type SignKeys } from './ddi.ts';
import { readErofs } from './erofs.ts';
import { UserError } from '../util/errors.ts';
import { copyPublic, makePublic } from '../util/files.ts';
import { releaseFilePath, targetName } from '../model/names.ts';
import { RELEASE_FILE_SIZE, releaseFileBlock, STRICT_XATTR } from './release-file.ts';
import type { FileSystemContent } from './content.ts';
import { imageDigests, type ImageDigests } from './image-digests.ts';
import { readSquashfs } from './squashfs.ts';
import { timed } from '../util/steps.ts';
import { temporaryBeside } from '../util/temporary.ts';
import { readTree } from './tree.ts';
import type { Store } from '../store/store.ts';
import type { Tools } from '../tools/tools.ts';
import type { Image, ImageEntry } from '../model/image.ts';
import type { Payload, Tree, TreeEntry } from '../model/payload.ts';
import type { Format, Target } from '../model/target.ts';

export type { SignKeys } from './ddi.ts';

/** One image to make. */
export interface BindJob {
  readonly target: Target;
  /** Path of the image. Its folder must exist. */
  readonly out: string;
}

export interface BindContext {
  readonly tools: Tools;
  readonly store: Store;
  readonly sign?: SignKeys;
}

/** The format of images for a target. */
export function formatOf(target: Target): Format {
  return target === 'portable' ? 'squashfs' : target.format;
}

function blockFor(payload: Payload, target: Target): Buffer {
  const { extension, kind, version, arch, reload } = payload;
  return releaseFileBlock({ name: extension, kind, version, arch, target, reload });
}

async function writeBlock(file: string, block: Buffer, offset: number): Promise<void> {
  const handle = await open(file, 'r+');
  try {
    await handle.write(block, 0, block.length, offset);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The metadata of an image of either format. */
export async function readContent(file: string, format: Format, arch: Payload['arch']): Promise<FileSystemContent> {
  if (format === 'squashfs') return readSquashfs(file);
  return readErofs(file, (await rootPartition(file, arch)).offset);
}

async function rootPartition(file: string, arch: Payload['arch']): Promise<Partition> {
  const root = (await readPartitions(file)).find(({ type }) => type === PARTITION_TYPES[arch].root);
  if (root === undefined) throw new UserError(`the disk image has no root partition for ${arch}`, { where: file });
  return root;
}

const describe = ({ path, type, mode, size, link }: Omit<TreeEntry, 'component' | 'sha256'> | ImageEntry): string =>
  [path, type, mode.toString(8), size, link ?? ''].join(' ');

/** Reads a finished image back: its entries must match the payload, root must own them, and the release file must be the target's. */
export async function readBack(file: string, payload: Payload, target: Target): Promise<void> {
  const { entries, plainBlock } = await readContent(file, payload.format, payload.arch);
  const wrong = (what: string): never => {
    throw new UserError(`the packed image does not match the staged tree: ${what}`, {
      where: file,
      next: 'build it again; if the error persists, run flatcar-ext cache verify',
    });
  };
  const { size } = await stat(file);
  if (payload.format === 'squashfs' && size !== payload.size) wrong(`it is ${size} bytes long, and the payload ${payload.size}`);
  const path = releaseFilePath(payload.extension, payload.kind);
  const expected = payload.tree.entries.map(describe);
  const found = new Set(entries.map(describe));
  const missing = expected.filter((one) => !found.has(one));
  if (missing.length > 0) wrong(`'${missing[0]}' is missing or different`);
  if (entries.length !== expected.length) wrong(`it has ${entries.length} entries instead of ${expected.length}`);
  for (const { path: at, uid, gid, xattrs } of entries) {
    if (uid !== 0 || gid !== 0) wrong(`'${at}' belongs to ${uid}:${gid}`);
    const names = Object.keys(xattrs);
    if (at === path ? names.length !== 1 || xattrs[STRICT_XATTR] !== 'false' : names.length > 0)
      wrong(`'${at}' has the attributes '${names.join(' ')}'`);
  }
  const offset = plainBlock(path) ?? wrong('the release file is not one plain block');
  // bind writes at the offset in the record: only the release file may be there.
  if (payload.format === 'squashfs' && offset !== payload.releaseFileOffset)
    wrong(`its release file begins at ${offset}, not at ${payload.releaseFileOffset}`);
  const handle = await open(file, 'r');
  try {
    const block = Buffer.alloc(RELEASE_FILE_SIZE);
    await handle.read(block, 0, block.length, offset);
    if (!block.equals(blockFor(payload, target))) wrong('the release file has a different text');
  } finally {
    await handle.close();
  }
}

const isUnpacked = ({ type }: ImageEntry): boolean => type === 'file' || type === 'dir' || type === 'link';

/**
 * Unpacks a file system that begins at `offset`: folders, files and links, with the modes in its table for any user and any umask. Devices, fifos
 * and sockets are left out: creating a device takes root.
 */
async function unpackFileSystem(tools: Tools, file: string, format: Format, offset: number, dir: string): Promise<void> {
  const { entries } = format === 'squashfs' ? await readSquashfs(file) : await readErofs(file, offset);
  if (format === 'squashfs') {
    const special = entries.filter((entry) => !isUnpacked(entry)).map(({ path }) => `${path}\n`);
    const list = `${dir}.special`;
    if (special.length > 0) await writeFile(list, special.join(''));
    const exclude = special.length > 0 ? ['-no-wildcards', '-exclude-file', list] : [];
    await tools.run('unsquashfs', ['-quiet', '-no-progress', '-no-xattrs', ...exclude, '-d', dir, file]);
    await rm(list, { force: true });
  } else await tools.run('fsck.erofs', [`--offset=${offset}`, '--no-preserve-owner', '--preserve-perms', `--extract=${dir}`, file]);
  // The content of a folder first: the mode of the folder may deny access to it.
  for (const { path, type, mode } of entries.filter(isUnpacked).toReversed()) {
    const info = await lstat(join(dir, path)).catch((cause: unknown) => {
      throw new UserError(`the image cannot be unpacked: the content of '${path}' is missing`, {
        where: file,
        next: 'the image is damaged: build or fetch it again',
        cause,
      });
    });
    const wanted = mode | (type === 'dir' ? 0o700 : 0o400);
    if (type !== 'link' && (info.mode & 0o7777) !== wanted) await chmod(join(dir, path), wanted);
  }
}

/** Unpacks an image's files into a folder, without their owners. */
export async function unpackImage(tools: Tools, file: string, format: Format, arch: Payload['arch'], dir: string): Promise<void> {
  await unpackFileSystem(tools, file, format, format === 'ddi' ? (await rootPartition(file, arch)).offset : 0, dir);
}

/** Unpacks a packed payload and compares every byte with the staged tree. */
export async function checkContent(tools: Tools, store: Store, file: string, format: Format, tree: Tree): Promise<void> {
  await store.withTemp(async (temp) => {
    const dir = join(temp, 'content');
    await unpackFileSystem(tools, file, format, 0, dir);
    const unpacked = await readTree(dir, new Map());
    if (unpacked.digest === tree.digest) return;
    const packed = new Map(unpacked.entries.map((entry) => [entry.path, entry]));
    const different = tree.entries.find(
      (entry) => packed.get(entry.path)?.sha256 !== entry.sha256 || packed.get(entry.path)?.mode !== entry.mode,
    );
    throw new UserError(
      `the packed image does not match the staged tree${different === undefined ? '' : `: '${different.path}' differs`}`,
      {
        where: file,
        next: 'build it again; if the error persists, check the disk and the memory of this machine',
      },
    );
  });
}

function imageOf(payload: Payload, job: BindJob, size: number, digests: ImageDigests): Image {
  const { extension, kind, version, arch, format, key } = payload;
  const target = targetName(job.target);
  return { extension, kind, version, arch, format, target, file: job.out, ...digests, size, payload: key };
}

/** A squashfs image is the payload with one block rewritten. The bytes before the block are hashed once for all targets. */
async function bindSquashfs(payload: Payload, file: string, jobs: readonly BindJob[]): Promise<Image[]> {
  const { releaseFileOffset: offset } = payload;
  const { size } = await stat(file);
  const temporaries: string[] = [];
  try {
    for (const { target, out } of jobs) {
      const temporary = await temporaryBeside(out);
      temporaries.push(temporary);
      await timed('copy', () => copyPublic(file, temporary));
      await timed('sync', () => writeBlock(temporary, blockFor(payload, target), offset));
      await timed('read back', () => readBack(temporary, payload, target));
    }
    const digests = await timed('digest', () => imageDigests(temporaries, offset));
    const images = jobs.map((job, index) => imageOf(payload, job, size, digests[index] as ImageDigests));
    for (const [index, temporary] of temporaries.entries()) await rename(temporary, (jobs[index] as BindJob).out);
    return images;
  } finally {
    for (const temporary of temporaries) await rm(temporary, { force: true });
  }
}

/**
 * Decides the ids of a disk image and the salt of its hashes: by the content and not by the target, so that images of one payload differ only in the
 * blocks that lead to the release file.
 */
const diskSeed = ({ extension, version, arch, tree }: Payload): string => [extension, version, arch, tree.digest].join(' ');

/** Makes a disk image around the patched erofs: verity covers every block. */
async function bindDdi(payload: Payload, file: string, job: BindJob, { tools, store, sign }: BindContext): Promise<Image> {
  return store.withTemp(async (temp) => {
    const erofs = join(temp, 'erofs');
    await timed('copy', () => copyPublic(file, erofs));
    await timed('sync', () => writeBlock(erofs, blockFor(payload, job.target), payload.releaseFileOffset));
    const temporary = await temporaryBeside(job.out);
    try {
      const about = { arch: payload.arch, seed: diskSeed(payload), sign };
      const { roothash, signed } = await timed('disk image', () => makeDdi(tools, erofs, about, temporary));
      await makePublic(temporary);
      await timed('read back', () => readBack(temporary, payload, job.target));
      const { size } = await stat(temporary);
      const [digests] = await timed('digest', () => imageDigests([temporary], 0));
      await rename(temporary, job.out);
      return { ...imageOf(payload, job, size, digests as ImageDigests), roothash, signed };
    } finally {
      await rm(temporary, { force: true });
    }
  });
}

function checkJobs(payload: Payload, jobs: readonly BindJob[]): void {
  for (const { target } of jobs) {
    const format = formatOf(target);
    if (format !== payload.format) {
      throw new UserError(`${targetName(target)} takes ${format} images, and the format of the payload is ${payload.format}`, {
        next: `build the ${format} payload: flatcar-ext build ${payload.extension} --release ${targetName(target)}`,
      });
    }
    if (target !== 'portable' && !target.arches.includes(payload.arch))
      throw new UserError(`Flatcar ${target.number} has no release for ${payload.arch}`);
  }
}

/**
 * Binds a payload to targets of its format. Each image is written whole or not at all, and read back. A squashfs image costs about a copy of the
 * file; a disk image gets its own dm-verity tree, signed if there are keys.
 */
export async function bindMany(payload: Payload, file: string, jobs: readonly BindJob[], context: BindContext): Promise<Image[]> {
  checkJobs(payload, jobs);
  for (const path of context.sign === undefined ? [] : [context.sign.key, context.sign.certificate]) {
    await access(path, constants.R_OK).catch((cause: unknown) => {
      throw new UserError('the signing key or certificate cannot be read', { where: path, cause });
    });
  }
  if (payload.format === 'squashfs') return bindSquashfs(payload, file, jobs);
  const images: Image[] = [];
  for (const job of jobs) images.push(await bindDdi(payload, file, job, context));
  return images;
}
