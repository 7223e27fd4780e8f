import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { access, mkdir, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec, UserError, type SignKeys } from '@flatcar/core';
import type { PrivateKey, PublicKey } from 'openpgp';
import { generateKey, readPrivateKeys, readPublicKeys } from './pgp.ts';

/**
 * A folder of keys:
 *   sums/*.key.asc        OpenPGP private keys, all of them sign sums and index (two only while nodes know both)
 *   sums/*.pub.asc        OpenPGP public keys, all of them go into nodes' keyring (those of keys to come, too)
 *   update/*.key.pem      RSA private keys, all of them sign update payloads
 *   update/*.pub.pem      their public keys
 *   roothash.key, .crt    X.509 key and certificate that sign disk images at bind
 * Instead of files: FLATCAR_EXT_SUMS_KEY (armored) and FLATCAR_EXT_UPDATE_KEY (PEM), as secrets of a CI are given.
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

const PRIVATE = { mode: 0o600, flag: 'wx' } as const;
/** Of a private key that is announced and does not sign yet. */
const NEXT = '.next.asc';
const there = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** Texts of the files of a folder whose names end so; others must not be able to read private ones. */
async function textsOf(dir: string, suffix: string, secret: boolean): Promise<{ where: string; text: string }[]> {
  const names = (await readdir(dir).catch(() => [])).filter((name) => name.endsWith(suffix)).toSorted();
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

/** Reads the keys of a folder, or of the environment where no folder is given. */
export async function loadKeys(dir: string | undefined, env: NodeJS.ProcessEnv = process.env): Promise<PublishKeys> {
  const { FLATCAR_EXT_SUMS_KEY: sumsText, FLATCAR_EXT_UPDATE_KEY: updateText } = env;
  const secrets = async (
    folder: string,
    suffix: string,
    name: string,
    value: string | undefined,
  ): Promise<{ where: string; text: string }[]> => [
    ...(dir === undefined ? [] : await textsOf(join(dir, folder), suffix, true)),
    ...(value === undefined || value === '' ? [] : [{ where: `environment variable ${name}`, text: value }]),
  ];
  const privates = await secrets('sums', '.key.asc', 'FLATCAR_EXT_SUMS_KEY', sumsText);
  const sums = (await Promise.all(privates.map(({ text, where }) => readPrivateKeys(text, where)))).flat();
  if (sums.length === 0)
    throw new UserError('there is no key to sign sums with', {
      ...(dir === undefined ? {} : { where: join(dir, 'sums') }),
      next: 'make a development set with: flatcar-ext keys init DIR, and give it by --keys DIR; or set FLATCAR_EXT_SUMS_KEY',
    });
  const publics = dir === undefined ? [] : await textsOf(join(dir, 'sums'), '.pub.asc', false);
  const others = (await Promise.all(publics.map(({ text, where }) => readPublicKeys(text, where)))).flat();
  const update = (await secrets('update', '.key.pem', 'FLATCAR_EXT_UPDATE_KEY', updateText)).map(({ text, where }) => rsaKey(text, where));
  const certificate = dir === undefined ? undefined : join(dir, 'roothash.crt');
  return {
    sums,
    trusted: [...sums.map((key) => key.toPublic()), ...others],
    update,
    ...(certificate !== undefined && (await there(certificate)) ? { certificate: await readFile(certificate, 'utf8') } : {}),
  };
}

/** The key and certificate of a folder that sign disk images at bind; undefined where there are none. */
export async function roothashKeys(dir: string): Promise<SignKeys | undefined> {
  const keys = { key: join(dir, 'roothash.key'), certificate: join(dir, 'roothash.crt') };
  if (!(await there(keys.key))) return undefined;
  if (((await stat(keys.key)).mode & 0o077) !== 0)
    throw new UserError('others can read this private key', { where: keys.key, next: `chmod 600 ${keys.key}` });
  return keys;
}

/** Public half of an RSA key, PEM. */
export const publicPem = (key: KeyObject): string => createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString();

async function addSumsKey(dir: string, id: string, suffix = '.key.asc'): Promise<void> {
  const { privateKey, publicKey } = await generateKey(`Flatcar extensions (${id})`);
  await writeFile(join(dir, 'sums', `${id}${suffix}`), privateKey, PRIVATE);
  await writeFile(join(dir, 'sums', `${id}.pub.asc`), publicKey, { flag: 'wx' });
}

/** Makes a set of keys in a folder that has none: for development and for tests; what is to be trusted for long belongs into hardware. */
export async function initKeys(dir: string): Promise<void> {
  const existing = await readdir(dir).catch(() => []);
  if (existing.length > 0)
    throw new UserError('this folder is not empty', { where: dir, next: 'name a new folder; to add a key: flatcar-ext keys rotate' });
  await mkdir(join(dir, 'sums'), { recursive: true, mode: 0o700 });
  await mkdir(join(dir, 'update'), { recursive: true, mode: 0o700 });
  await addSumsKey(dir, '1');
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  await writeFile(join(dir, 'update', '1.key.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }), PRIVATE);
  await writeFile(join(dir, 'update', '1.pub.pem'), publicPem(privateKey), { flag: 'wx' });
  const roothash = generateKeyPairSync('rsa', { modulusLength: 4096 });
  await writeFile(join(dir, 'roothash.key'), roothash.privateKey.export({ type: 'pkcs8', format: 'pem' }), PRIVATE);
  const request = ['req', '-new', '-x509', '-batch', '-utf8', '-sha256', '-days', '3650', '-subj', '/CN=Flatcar extensions (development)'];
  await exec('openssl', [...request, '-key', join(dir, 'roothash.key'), '-out', join(dir, 'roothash.crt')], { next: 'install openssl' });
}

/** Numbers of the OpenPGP keys of a folder, by what their files end in. */
async function idsOf(dir: string, suffix: string): Promise<number[]> {
  const names = await readdir(join(dir, 'sums')).catch(() => []);
  return names.filter((name) => name.endsWith(suffix)).map((name) => Number.parseInt(name, 10));
}

/**
 * Begins to rotate the OpenPGP key: the next one's public half goes into the published keyring, and nothing is signed by it yet. gpg, and
 * with it systemd-sysupdate, refuses a file with two signatures unless it knows both keys [tried]: so it is keyrings that overlap, not signatures.
 * Returns the file of the next private key.
 */
export async function beginRotation(dir: string): Promise<string> {
  const ids = await idsOf(dir, '.pub.asc');
  if (ids.length === 0) throw new UserError('there is no set of keys here', { where: dir, next: 'flatcar-ext keys init DIR makes one' });
  if ((await idsOf(dir, NEXT)).length > 0)
    throw new UserError('a rotation is under way already', {
      where: dir,
      next: 'when all nodes have the new keyring: flatcar-ext keys rotate --finish',
    });
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
  await rename(path(next, NEXT), path(next, '.key.asc'));
  for (const id of before) await rename(path(id, '.key.asc'), path(id, '.old.asc'));
  return path(next, '.key.asc');
}
