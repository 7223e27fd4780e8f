import { createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate, type KeyObject } from 'node:crypto';
import { constants } from 'node:fs';
import { access, chmod, link, mkdir, open, readdir, readFile, realpath, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import {
  assertKeyCanSign,
  describeErrno,
  envOf,
  exec,
  fsync,
  makePublic,
  messageOf,
  mkdirPublic,
  PUBLIC_FILE,
  TEMPORARY,
  temporaryBeside,
  UserError,
  writeAtomic,
  type Environment,
  type SignKeys,
} from '@flatcar/core/engine';
import type { PrivateKey, PublicKey } from 'openpgp';
import { generateKey, readKeyring, readPrivateKeys, readPublicKeys } from './openpgp.ts';

/** Variables that stand in for files of a folder of keys. Empty ones are unset. */
const SUMS_KEY = 'FLATCAR_EXT_SUMS_KEY';
const UPDATE_KEY = 'FLATCAR_EXT_UPDATE_KEY';
const ROOTHASH_KEY = 'FLATCAR_EXT_ROOTHASH_KEY';
const ROOTHASH_CERTIFICATE = 'FLATCAR_EXT_ROOTHASH_CERTIFICATE';

/**
 * A folder of keys:
 *   sums/*.key.asc        OpenPGP private keys, all of them sign sums and index (two only while nodes know both)
 *   sums/*.pub.asc        OpenPGP public keys, all of them go into nodes' keyring (those of keys to come, too)
 *   update/*.key.pem      RSA private keys, all of them sign update payloads
 *   update/*.pub.pem      their public keys
 *   roothash.key, .crt    X.509 key and certificate that sign disk images at bind
 * Instead of files: FLATCAR_EXT_SUMS_KEY (armored), FLATCAR_EXT_UPDATE_KEY, FLATCAR_EXT_ROOTHASH_KEY and FLATCAR_EXT_ROOTHASH_CERTIFICATE
 * (PEM), as secrets of a CI are given; with them a keyring of the keys that nodes know, or are to know (--keyring).
 */
export interface PublishKeys {
  /** Sign sums and index. */
  readonly sums: readonly PrivateKey[];
  /** Whoever may have signed what is published already, the above included. */
  readonly trusted: readonly PublicKey[];
  /** Sign update payloads; none: the official layout is left out. */
  readonly update: readonly KeyObject[];
  /** PEM, where there is one: published for nodes that check the roothash. */
  readonly certificate?: string;
}

/** Of a private key that is announced and does not sign yet. */
const NEXT = '.next.asc';
const there = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** Names in a folder; none where it is missing. */
const namesIn = (dir: string): Promise<string[]> =>
  readdir(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });

/** Texts of the files of a folder whose names end so; others must not be able to read private ones. */
async function textsOf(dir: string, suffix: string, secret: boolean): Promise<{ where: string; text: string }[]> {
  const names = (await namesIn(dir)).filter((name) => name.endsWith(suffix)).toSorted();
  return Promise.all(
    names.map(async (name) => {
      const where = join(dir, name);
      if (secret && ((await stat(where)).mode & 0o077) !== 0)
        throw new UserError('others can read this private key', { where, next: `chmod 600 ${where}` });
      return { where, text: await readFile(where, 'utf8') };
    }),
  );
}

function rsaKey(text: string, where: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey(text);
  } catch {
    // The cause may quote what it could not read.
    throw new UserError('this is no private key in PEM', { where });
  }
  if (key.asymmetricKeyType !== 'rsa') throw new UserError('update payloads are signed by RSA keys only', { where });
  return key;
}

/** Reads OpenPGP public keys from a file: a binary keyring such as import-pubring.gpg, or armored ones. */
export async function readKeyringFile(file: string): Promise<PublicKey[]> {
  const bytes = await readFile(file).catch((cause: unknown) => {
    throw new UserError(`the keyring cannot be read: ${messageOf(cause)}`, {
      where: file,
      next: 'name the file of public keys, such as .github/keyring.gpg',
      cause,
    });
  });
  const keys = bytes.includes('-----BEGIN PGP') ? await readPublicKeys(bytes.toString(), file) : await readKeyring(bytes, file);
  if (keys.length === 0) throw new UserError('the keyring contains no OpenPGP public key', { where: file });
  return keys;
}

/** Refuses a folder of keys that is not there, whatever it would be used for: it was specified. */
async function assertKeysFolder(dir: string): Promise<void> {
  if (!(await there(dir))) throw new UserError('there is no folder of keys', { where: dir, next: 'flatcar-ext keys init DIR makes one' });
}

/** The certificate of a folder, or of the environment where the folder has none. */
async function certificateOf(dir: string | undefined, env: Environment): Promise<string | undefined> {
  const file = dir === undefined ? undefined : join(dir, 'roothash.crt');
  const found =
    file !== undefined && (await there(file))
      ? { where: file, text: await readFile(file, 'utf8') }
      : { where: `environment variable ${ROOTHASH_CERTIFICATE}`, text: envOf(ROOTHASH_CERTIFICATE, env) };
  if (found.text === undefined) return undefined;
  try {
    return new X509Certificate(found.text).toString();
  } catch (cause) {
    throw new UserError('this is not a valid X.509 certificate in PEM', { where: found.where, cause });
  }
}

/**
 * Reads the keys of a folder and of the environment. What `keyring` holds is trusted and published besides their public halves: the next key
 * before it signs, and the one before for what it signed.
 */
export async function loadKeys(dir: string | undefined, env: Environment = process.env, keyring?: string): Promise<PublishKeys> {
  const secrets = async (folder: string, suffix: string, name: string): Promise<{ where: string; text: string }[]> => {
    const value = envOf(name, env);
    return [
      ...(dir === undefined ? [] : await textsOf(join(dir, folder), suffix, true)),
      ...(value === undefined ? [] : [{ where: `environment variable ${name}`, text: value }]),
    ];
  };
  if (dir !== undefined) await assertKeysFolder(dir);
  const privates = await secrets('sums', '.key.asc', SUMS_KEY);
  const sums = (await Promise.all(privates.map(({ text, where }) => readPrivateKeys(text, where)))).flat();
  if (sums.length === 0)
    throw new UserError('there is no key to sign sums with', {
      ...(dir === undefined ? {} : { where: join(dir, 'sums') }),
      next: 'make a development set with: flatcar-ext keys init DIR, and give it by --keys DIR; or set FLATCAR_EXT_SUMS_KEY',
    });
  for (const key of sums) await assertKeyCanSign(key.toPublic(), undefined, 'the key that signs sums');
  const publics = dir === undefined ? [] : await textsOf(join(dir, 'sums'), '.pub.asc', false);
  const others = (await Promise.all(publics.map(({ text, where }) => readPublicKeys(text, where)))).flat();
  const known = keyring === undefined ? [] : await readKeyringFile(keyring);
  const update = (await secrets('update', '.key.pem', UPDATE_KEY)).map(({ text, where }) => rsaKey(text, where));
  const certificate = await certificateOf(dir, env);
  const trusted = new Map([...sums.map((key) => key.toPublic()), ...others, ...known].map((key) => [key.getFingerprint(), key]));
  return { sums, trusted: [...trusted.values()], update, ...(certificate === undefined ? {} : { certificate }) };
}

/** The key and certificate of a folder that sign disk images at bind; undefined where there are none. */
export async function roothashKeys(dir: string): Promise<SignKeys | undefined> {
  await assertKeysFolder(dir);
  const keys = { key: join(dir, 'roothash.key'), certificate: join(dir, 'roothash.crt') };
  if (!(await there(keys.key))) return undefined;
  if (((await stat(keys.key)).mode & 0o077) !== 0)
    throw new UserError('others can read this private key', { where: keys.key, next: `chmod 600 ${keys.key}` });
  return keys;
}

/**
 * Gives a file that has no name any more, so that nothing of it is left however this process dies: in memory, where there is such a file system.
 * Programs that this one starts open it by its path.
 */
async function namelessFile(text: string): Promise<{ path: string; handle: FileHandle }> {
  const memory = await access('/dev/shm', constants.W_OK).then(
    () => '/dev/shm',
    () => tmpdir(),
  );
  const named = await temporaryBeside(join(memory, 'key'));
  const handle = await open(named, 'wx+', 0o600);
  try {
    await rm(named);
    await handle.writeFile(text); // only now that it has no name
    return { path: `/proc/${process.pid}/fd/${handle.fd}`, handle };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * Runs `use` with the files of the key and certificate that sign disk images: those of a folder, else what FLATCAR_EXT_ROOTHASH_KEY and
 * FLATCAR_EXT_ROOTHASH_CERTIFICATE hold, in files without a name that only this user can open and only while this process runs.
 */
export async function withRoothashKeys<T>(
  dir: string | undefined,
  env: Environment,
  use: (keys: SignKeys | undefined) => Promise<T>,
): Promise<T> {
  if (dir !== undefined) {
    const found = await roothashKeys(dir);
    if (found !== undefined) return use(found);
  }
  const key = envOf(ROOTHASH_KEY, env);
  const certificate = await certificateOf(undefined, env);
  if (key === undefined) return use(undefined);
  if (certificate === undefined)
    throw new UserError(`${ROOTHASH_KEY} is set and ${ROOTHASH_CERTIFICATE} is not`, {
      next: 'disk images are signed with both: set the certificate of the key',
    });
  const files: FileHandle[] = [];
  const put = async (text: string): Promise<string> => {
    const { path, handle } = await namelessFile(text);
    files.push(handle);
    return path;
  };
  try {
    return await use({ key: await put(key.endsWith('\n') ? key : `${key}\n`), certificate: await put(certificate) });
  } finally {
    for (const handle of files) await handle.close();
  }
}

/** Public half of an RSA key, PEM. */
export const publicPem = (key: KeyObject): string => createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString();

/** Writes a private key as a whole, so that it survives a power cut. Never over another. */
async function writePrivate(file: string, text: string | Buffer): Promise<void> {
  const temporary = await temporaryBeside(file);
  try {
    await writeAtomic(temporary, text, 0o600);
    await link(temporary, file);
  } finally {
    await rm(temporary, { force: true });
  }
  await fsync(dirname(file));
}

/** Writes the public half of a key: others may read it, as far as they may enter the folder. */
const writePublic = (file: string, text: string): Promise<void> => writeAtomic(file, text, PUBLIC_FILE);

/** Adds an OpenPGP key: the private half first, of which the other can be made again. */
async function addSumsKey(dir: string, id: string, suffix = '.key.asc'): Promise<void> {
  const { privateKey, publicKey } = await generateKey(`Flatcar extensions (${id})`);
  await writePrivate(join(dir, 'sums', `${id}${suffix}`), privateKey);
  await writePublic(join(dir, 'sums', `${id}.pub.asc`), publicKey);
}

/** Makes a folder that only we can enter, whatever mode it had. */
async function makePrivateFolder(dir: string): Promise<void> {
  await mkdir(dir, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  await chmod(dir, 0o700);
}

/** Whether a folder cannot be replaced by another: it is a mount point, or the folder above is somebody else's. */
async function isFixed(dir: string): Promise<boolean> {
  const above = dirname(dir);
  if (!(await there(dir))) return false;
  const isOurs = await access(above, constants.W_OK).then(
    () => true,
    () => false,
  );
  return !isOurs || (await stat(dir)).dev !== (await stat(above)).dev;
}

/**
 * Makes a set of keys in a folder that has none, whole or not at all: for development and for tests; what is to be trusted for long belongs
 * into hardware.
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
    throw describeErrno(error, dir) ?? error; // a failed write to an open file names no path
  });
}

async function placeKeys(dir: string): Promise<void> {
  await mkdirPublic(dirname(resolve(dir)));
  const place = await realpath(dir).catch(() => resolve(dir)); // an empty folder may be a link
  const isInside = await isFixed(place);
  const fresh = await temporaryBeside(isInside ? join(place, 'sums') : place);
  try {
    await writeKeys(fresh);
    if (isInside) {
      // Without sums/ it is no set of keys.
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
  await addSumsKey(dir, '1');
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

/** Numbers of the OpenPGP keys of a folder, by what their files end in. */
async function idsOf(dir: string, suffix: string): Promise<number[]> {
  const names = await namesIn(join(dir, 'sums'));
  return names.filter((name) => name.endsWith(suffix)).map((name) => Number.parseInt(name, 10));
}

/** Writes the public half of a next key that a killed run did not come to write. */
async function completePublic(dir: string, id: number): Promise<boolean> {
  const file = join(dir, 'sums', `${id}${NEXT}`);
  const [key] = await readPrivateKeys(await readFile(file, 'utf8'), file);
  if (key === undefined) return false;
  await writePublic(join(dir, 'sums', `${id}.pub.asc`), key.toPublic().armor());
  return true;
}

/**
 * Begins to rotate the OpenPGP key: the next one's public half goes into the published keyring, and nothing is signed by it yet. gpg, and
 * with it systemd-sysupdate, refuses a file with two signatures unless it knows both keys [tried]: so it is keyrings that overlap, not signatures.
 * Returns the file of the next private key.
 */
export async function beginRotation(dir: string): Promise<string> {
  const ids = await idsOf(dir, '.pub.asc');
  if (ids.length === 0) throw new UserError('there is no set of keys here', { where: dir, next: 'flatcar-ext keys init DIR makes one' });
  const [begun] = await idsOf(dir, NEXT);
  if (begun !== undefined && (ids.includes(begun) || !(await completePublic(dir, begun))))
    throw new UserError('a rotation is under way already', {
      where: dir,
      next: 'when all nodes have the new keyring: flatcar-ext keys rotate --finish',
    });
  if (begun !== undefined) return join(dir, 'sums', `${begun}${NEXT}`);
  const id = String(Math.max(...ids) + 1);
  await addSumsKey(dir, id, NEXT);
  return join(dir, 'sums', `${id}${NEXT}`);
}

/**
 * Ends a rotation: from now on the next key signs, and the one before does not. Its public half stays in the keyring, for what it signed.
 * Returns the file of the key that signs.
 */
export async function finishRotation(dir: string): Promise<string> {
  const [next] = await idsOf(dir, NEXT);
  if (next === undefined) throw new UserError('no rotation was begun', { where: dir, next: 'flatcar-ext keys rotate DIR begins one' });
  const before = await idsOf(dir, '.key.asc');
  const path = (id: number, suffix: string): string => join(dir, 'sums', `${id}${suffix}`);
  // The former key ends first: killed between, nothing is signed until this is run again, instead of by two keys.
  for (const id of before) await rename(path(id, '.key.asc'), path(id, '.old.asc'));
  await rename(path(next, NEXT), path(next, '.key.asc'));
  await fsync(join(dir, 'sums'));
  return path(next, '.key.asc');
}
