import { generateKeyPairSync } from 'node:crypto';
import { constants } from 'node:fs';
import { access, chmod, mkdir, readdir, realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { describeErrno, exec, fsync, makePublic, mkdirPublic, TEMPORARY, temporaryBeside, UserError } from '@flatcar/core/engine';
import { addSumsKey, exists, SIGNING, writePrivate, writePublic } from './key-files.ts';
import { publicPem } from './keys.ts';
import { METADATA_KEYS, writeRoleKeys } from './role-keys.ts';

const README = `A set of keys of a published tree. Keep it secret, except for what is marked as public.

metadata/<n>.root.json        public: the root of trust. Give it to operators of nodes, and compare its fingerprint: flatcar-ext keys show
metadata/root-<n>.key.pem     offline: two of the three sign a new root when keys change. Store each in another place, and remove it here
metadata/targets-1.key.pem    signs which index is published; needed to publish
metadata/snapshot-1.key.pem   signs the state of the metadata; needed to publish
metadata/timestamp-1.key.pem  signs each day that the tree is current; the daily job needs only this key
sums/                         OpenPGP: signs SHA256SUMS for systemd-sysupdate. *.pub.asc are public
update/                       RSA: signs update payloads. *.pub.pem are public
roothash.key, roothash.crt    X.509: sign disk images. The certificate is public
`;

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
      for (const name of ['README', 'roothash.crt', 'roothash.key', 'update', METADATA_KEYS, 'sums'])
        await rename(join(fresh, name), join(place, name));
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
  for (const folder of [dir, join(dir, 'sums'), join(dir, 'update'), join(dir, METADATA_KEYS)]) await makePrivateFolder(folder);
  await writePublic(join(dir, 'README'), README);
  await writeRoleKeys(dir, new Date());
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
