import { generateKeyPairSync } from 'node:crypto';
import { constants } from 'node:fs';
import { access, chmod, mkdir, readdir, realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { describeErrno, exec, fsync, makePublic, mkdirPublic, TEMPORARY, temporaryBeside, UserError } from '@flatcar/core/engine';
import { addSumsKey, exists, SIGNING, writePrivate, writePublic } from './key-files.ts';
import { publicPem } from './keys.ts';

/** Makes a folder that only its owner can enter, whatever mode it had. */
async function makePrivateFolder(dir: string): Promise<void> {
  await mkdir(dir, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  await chmod(dir, 0o700);
}

/** True if a folder cannot be replaced by another: it is a mount point, or the folder above is not writable. */
async function isImmovable(dir: string): Promise<boolean> {
  const above = dirname(dir);
  if (!(await exists(dir))) return false;
  const isWritable = await access(above, constants.W_OK).then(
    () => true,
    () => false,
  );
  return !isWritable || (await stat(dir)).dev !== (await stat(above)).dev;
}

/**
 * Makes a set of keys in a new or empty folder, whole or not at all, for development and tests. Keys that are trusted for long belong in
 * hardware.
 */
export async function initKeys(dir: string): Promise<void> {
  const existing = await readdir(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    if (error.code === 'ENOTDIR') throw new UserError('this is a file, not a folder', { where: dir, next: 'name a new folder' });
    throw error;
  });
  if (existing.some((name) => !TEMPORARY.test(name)))
    throw new UserError('this folder is not empty', { where: dir, next: 'name a new folder; to add a key: flatcar-ext keys rotate' });
  await placeKeys(dir).catch((error: unknown) => {
    throw describeErrno(error, dir) ?? error; // the error of a failed write to an open file has no path
  });
}

async function placeKeys(dir: string): Promise<void> {
  await mkdirPublic(dirname(resolve(dir)));
  const place = await realpath(dir).catch(() => resolve(dir)); // an empty folder may be a link
  const isInside = await isImmovable(place);
  const fresh = await temporaryBeside(isInside ? join(place, 'sums') : place);
  try {
    await writeKeys(fresh);
    if (isInside) {
      // The folder is a set of keys only once it has sums/.
      for (const name of ['roothash.crt', 'roothash.key', 'update', 'sums']) await rename(join(fresh, name), join(place, name));
      await chmod(place, 0o700);
      await fsync(place);
    } else {
      await rename(fresh, place);
      await fsync(dirname(place));
    }
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

async function writeKeys(dir: string): Promise<void> {
  for (const folder of [dir, join(dir, 'sums'), join(dir, 'update')]) await makePrivateFolder(folder);
  await addSumsKey(dir, '1', SIGNING);
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  await writePrivate(join(dir, 'update', '1.key.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
  await writePublic(join(dir, 'update', '1.pub.pem'), publicPem(privateKey));
  const roothash = generateKeyPairSync('rsa', { modulusLength: 4096 });
  await writePrivate(join(dir, 'roothash.key'), roothash.privateKey.export({ type: 'pkcs8', format: 'pem' }));
  const request = ['req', '-new', '-x509', '-batch', '-utf8', '-sha256', '-days', '3650', '-subj', '/CN=Flatcar extensions (development)'];
  await exec('openssl', [...request, '-key', join(dir, 'roothash.key'), '-out', join(dir, 'roothash.crt')], { install: 'install openssl' });
  await makePublic(join(dir, 'roothash.crt'));
  await fsync(join(dir, 'roothash.crt'));
  await fsync(dir);
}
