import { createPrivateKey, createPublicKey, X509Certificate, type KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { assertKeyCanSign, envOf, messageOf, UserError, type Environment } from '@flatcar/core/engine';
import type { PrivateKey, PublicKey } from 'openpgp';
import { exists, PUBLIC, SIGNING, textsOf } from './key-files.ts';
import { loadMetadataKeys, type MetadataKeys } from './role-keys.ts';
import { readKeyring, readPrivateKeys, readPublicKeys } from './openpgp.ts';

/** Variables in place of files of a folder of keys. An empty variable counts as unset. */
const SUMS_KEY = 'FLATCAR_EXT_SUMS_KEY';
const UPDATE_KEY = 'FLATCAR_EXT_UPDATE_KEY';
export const ROOTHASH_CERTIFICATE = 'FLATCAR_EXT_ROOTHASH_CERTIFICATE';

/**
 * Keys from a folder:
 *   metadata/*.root.json  the root of trust, all versions
 *   metadata/*.key.pem    ed25519 private keys of the roles; those of root are needed only to change keys
 *   sums/*.key.asc        OpenPGP private keys; each signs sums (two only while nodes know both)
 *   sums/*.pub.asc        OpenPGP public keys of nodes' keyring, the next key's included
 *   update/*.key.pem      RSA private keys; each signs update payloads
 *   update/*.pub.pem      their public keys
 *   roothash.key, .crt    X.509 key and certificate that sign disk images at bind
 * Or from variables, as CI passes secrets: FLATCAR_EXT_SUMS_KEY (armored), FLATCAR_EXT_TARGETS_KEY, FLATCAR_EXT_SNAPSHOT_KEY,
 * FLATCAR_EXT_TIMESTAMP_KEY, FLATCAR_EXT_UPDATE_KEY, FLATCAR_EXT_ROOTHASH_KEY and FLATCAR_EXT_ROOTHASH_CERTIFICATE (PEM); with them the root of
 * trust (--root) and a keyring of the keys that nodes know or will know (--keyring).
 */
export interface PublishKeys {
  /** Sign the metadata that the tree is verified by. */
  readonly metadata: MetadataKeys;
  /** Sign sums. */
  readonly sums: readonly PrivateKey[];
  /** Keys that may have signed what is published, those of `sums` included. */
  readonly trusted: readonly PublicKey[];
  /** Sign update payloads; without any, the official layout is left out. */
  readonly update: readonly KeyObject[];
  /** PEM: published for nodes that check the roothash. */
  readonly certificate?: string | undefined;
}

function rsaKey(text: string, where: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey(text);
  } catch {
    // The cause may quote what it could not read.
    throw new UserError('not a valid private key in PEM', { where });
  }
  if (key.asymmetricKeyType !== 'rsa') throw new UserError('update payloads need an RSA key', { where });
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

/** Refuses a folder of keys that was specified and does not exist. */
export async function assertKeysFolder(dir: string): Promise<void> {
  if (!(await exists(dir)))
    throw new UserError('this folder of keys does not exist', { where: dir, next: 'flatcar-ext keys init DIR makes one' });
}

/** The certificate (PEM) of a folder, else of the environment. */
export async function certificateOf(dir: string | undefined, env: Environment): Promise<string | undefined> {
  const file = dir === undefined ? undefined : join(dir, 'roothash.crt');
  const found =
    file !== undefined && (await exists(file))
      ? { where: file, text: await readFile(file, 'utf8') }
      : { where: `environment variable ${ROOTHASH_CERTIFICATE}`, text: envOf(ROOTHASH_CERTIFICATE, env) };
  if (found.text === undefined) return undefined;
  try {
    return new X509Certificate(found.text).toString();
  } catch (cause) {
    throw new UserError('not a valid X.509 certificate in PEM', { where: found.where, cause });
  }
}

/**
 * Reads the keys of a folder and of the environment. The keys in the file `keyring` are trusted and published besides their public halves:
 * the next key before it signs, and the former key for the files that it signed.
 */
export async function loadKeys(
  dir: string | undefined,
  env: Environment = process.env,
  { keyring, root }: { readonly keyring?: string | undefined; readonly root?: string | undefined } = {},
): Promise<PublishKeys> {
  const secrets = async (folder: string, suffix: string, name: string): Promise<{ where: string; text: string }[]> => {
    const value = envOf(name, env);
    return [
      ...(dir === undefined ? [] : await textsOf(join(dir, folder), suffix, true)),
      ...(value === undefined ? [] : [{ where: `environment variable ${name}`, text: value }]),
    ];
  };
  if (dir !== undefined) await assertKeysFolder(dir);
  const privates = await secrets('sums', SIGNING, SUMS_KEY);
  const sums = (await Promise.all(privates.map(({ text, where }) => readPrivateKeys(text, where)))).flat();
  if (sums.length === 0)
    throw new UserError('there is no key to sign sums with', {
      where: dir === undefined ? undefined : join(dir, 'sums'),
      next: 'make a development set with flatcar-ext keys init DIR and pass --keys DIR; or set FLATCAR_EXT_SUMS_KEY',
    });
  for (const key of sums) await assertKeyCanSign(key.toPublic(), undefined, 'the key that signs sums');
  const publics = dir === undefined ? [] : await textsOf(join(dir, 'sums'), PUBLIC, false);
  const others = (await Promise.all(publics.map(({ text, where }) => readPublicKeys(text, where)))).flat();
  const known = keyring === undefined ? [] : await readKeyringFile(keyring);
  const update = (await secrets('update', '.key.pem', UPDATE_KEY)).map(({ text, where }) => rsaKey(text, where));
  const certificate = await certificateOf(dir, env);
  const trusted = new Map([...sums.map((key) => key.toPublic()), ...others, ...known].map((key) => [key.getFingerprint(), key]));
  return { metadata: await loadMetadataKeys(dir, env, root), sums, trusted: [...trusted.values()], update, certificate };
}

/** Public half of an RSA key as PEM. */
export const publicPem = (key: KeyObject): string => createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString();
