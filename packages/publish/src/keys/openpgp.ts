import { judgeSignatures, messageOf, UserError } from '@flatcar/core/engine';
import type { PrivateKey, PublicKey } from 'openpgp';

const openpgp = (): Promise<typeof import('openpgp')> => import('openpgp');

/** Every armored block of a text that may hold several. Looked for from mark to mark: an expression would begin again at each. */
function blocks(text: string, kind: 'PRIVATE' | 'PUBLIC'): string[] {
  const [begin, end] = ['BEGIN', 'END'].map((word) => `-----${word} PGP ${kind} KEY BLOCK-----`) as [string, string];
  const found: string[] = [];
  for (let from = text.indexOf(begin); from !== -1;) {
    const to = text.indexOf(end, from);
    if (to === -1) break;
    found.push(text.slice(from, to + end.length));
    from = text.indexOf(begin, to + end.length);
  }
  return found;
}

/** Reads armored private keys; `where` is named in errors, the key never is. */
export async function readPrivateKeys(text: string, where: string): Promise<PrivateKey[]> {
  const { readPrivateKeys: read } = await openpgp();
  const found: PrivateKey[] = [];
  for (const armoredKeys of blocks(text, 'PRIVATE')) {
    const keys = await read({ armoredKeys }).catch(() => {
      throw new UserError('this is no OpenPGP private key', { where });
    });
    found.push(...keys);
  }
  if (found.length === 0)
    throw new UserError('there is no armored OpenPGP private key here', { where, next: 'flatcar-ext keys init makes one' });
  if (found.some((key) => !key.isDecrypted()))
    throw new UserError('the OpenPGP key is locked by a passphrase, and nobody can be asked for it', {
      where,
      next: 'export it without one',
    });
  return found;
}

/** Reads armored public keys. */
export async function readPublicKeys(text: string, where: string): Promise<PublicKey[]> {
  const { readKeys } = await openpgp();
  try {
    return (await Promise.all(blocks(text, 'PUBLIC').map((armoredKeys) => readKeys({ armoredKeys })))).flat();
  } catch (cause) {
    throw new UserError('this is no OpenPGP public key', { where, cause });
  }
}

/** Reads a binary keyring such as import-pubring.gpg. */
export async function readKeyring(bytes: Buffer, where: string): Promise<PublicKey[]> {
  const { readKeys } = await openpgp();
  try {
    return await readKeys({ binaryKeys: bytes });
  } catch (cause) {
    throw new UserError('this is no OpenPGP keyring', { where, cause });
  }
}

/** A keyring as gpg and systemd read it: binary public keys one after the other, each once. */
export function keyringOf(keys: readonly PublicKey[]): Buffer {
  const unique = new Map(keys.map((key) => [key.getFingerprint(), key]));
  return Buffer.concat([...unique.values()].map((key) => Buffer.from(key.write())));
}

/**
 * A new key for signing. Version 4 and the old form of Ed25519: gpg 2.2, which nodes have, knows no other elliptic curve that
 * OpenPGP.js makes ("Invalid public key algorithm").
 */
export async function generateKey(name: string): Promise<{ privateKey: string; publicKey: string }> {
  const { generateKey: generate } = await openpgp();
  const { privateKey, publicKey } = await generate({
    type: 'ecc',
    curve: 'ed25519Legacy',
    userIDs: [{ name }],
    format: 'armored',
  });
  return { privateKey, publicKey };
}

/** A detached binary signature by each of the keys, one after the other. */
export async function signDetached(bytes: Buffer, keys: readonly PrivateKey[]): Promise<Buffer> {
  const { createMessage, sign } = await openpgp();
  const message = await createMessage({ binary: new Uint8Array(bytes) });
  const signature = await sign({ message, signingKeys: [...keys], detached: true, format: 'binary' });
  return Buffer.from(signature);
}

/** Signatures of one file that are checked: each takes a pass over the file. */
const MOST_SIGNATURES = 64;

/** What the signatures of a file are worth. */
export interface SignatureCheck {
  /** Fingerprints of the given keys by which a signature is good now. */
  readonly good: Set<string>;
  /** Why the other signatures do not count. */
  readonly problems: readonly string[];
}

/**
 * Checks a detached signature. A key that has ended (expired, revoked for whatever reason) does not count, however old the signature says that
 * it is: whoever has such a key can write any date.
 */
export async function checkSignatures(bytes: Buffer, signature: Buffer, keys: readonly PublicKey[]): Promise<SignatureCheck> {
  const { createMessage, readSignature, verify } = await openpgp();
  const good = new Set<string>();
  const problems: string[] = [];
  try {
    const message = await createMessage({ binary: new Uint8Array(bytes) });
    const parsed = await readSignature({ binarySignature: new Uint8Array(signature) });
    if (parsed.packets.length > MOST_SIGNATURES) throw new Error(`it has ${parsed.packets.length} signatures`);
    const { signatures } = await verify({ message, signature: parsed, verificationKeys: [...keys] });
    for (const verdict of await judgeSignatures(signatures, keys, { where: 'the signature', keyFile: 'the keyring', bytes })) {
      if (verdict.problem === undefined) good.add(verdict.key.getFingerprint());
      else problems.push(verdict.problem.message);
    }
  } catch (error) {
    problems.push(signature.length === 0 ? 'there is no signature' : `the signature cannot be read: ${messageOf(error)}`);
  }
  return { good, problems };
}

/** Fingerprints of the given keys by which a detached signature is good. */
export const goodSignatures = async (bytes: Buffer, signature: Buffer, keys: readonly PublicKey[]): Promise<Set<string>> =>
  (await checkSignatures(bytes, signature, keys)).good;
