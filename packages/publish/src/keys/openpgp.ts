import { judgeSignatures, messageOf, UserError } from '@flatcar/core/engine';
import type { PrivateKey, PublicKey } from 'openpgp';

const openpgp = (): Promise<typeof import('openpgp')> => import('openpgp');

/** All armored blocks of a text. Searches from mark to mark, because a regular expression would backtrack to each of them. */
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

/** Reads armored private keys. Errors name `where` and never contain the key. */
export async function readPrivateKeys(text: string, where: string): Promise<PrivateKey[]> {
  const { readPrivateKeys: read } = await openpgp();
  const found: PrivateKey[] = [];
  for (const armoredKeys of blocks(text, 'PRIVATE')) {
    const keys = await read({ armoredKeys }).catch(() => {
      throw new UserError('not a valid OpenPGP private key', { where });
    });
    found.push(...keys);
  }
  if (found.length === 0) throw new UserError('no armored OpenPGP private key found', { where, next: 'flatcar-ext keys init makes one' });
  if (found.some((key) => !key.isDecrypted()))
    throw new UserError('the OpenPGP key is locked by a passphrase, which cannot be prompted for', {
      where,
      next: 'export the key without a passphrase',
    });
  return found;
}

/** Reads armored public keys. */
export async function readPublicKeys(text: string, where: string): Promise<PublicKey[]> {
  const { readKeys } = await openpgp();
  try {
    return (await Promise.all(blocks(text, 'PUBLIC').map((armoredKeys) => readKeys({ armoredKeys })))).flat();
  } catch (cause) {
    throw new UserError('not a valid OpenPGP public key', { where, cause });
  }
}

/** Reads a binary keyring such as import-pubring.gpg. */
export async function readKeyring(bytes: Buffer, where: string): Promise<PublicKey[]> {
  const { readKeys } = await openpgp();
  try {
    return await readKeys({ binaryKeys: bytes });
  } catch (cause) {
    throw new UserError('not a valid OpenPGP keyring', { where, cause });
  }
}

/** A keyring in the form that gpg and systemd read: binary public keys, each once. */
export function keyringOf(keys: readonly PublicKey[]): Buffer {
  const unique = new Map(keys.map((key) => [key.getFingerprint(), key]));
  return Buffer.concat([...unique.values()].map((key) => Buffer.from(key.write())));
}

/**
 * Generates a signing key, armored: version 4 with the old form of Ed25519, because gpg 2.2, which nodes have, supports no other elliptic
 * curve of OpenPGP.js ("Invalid public key algorithm").
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

/** Detached binary signatures by the keys, concatenated. */
export async function signDetached(bytes: Buffer, keys: readonly PrivateKey[]): Promise<Buffer> {
  const { createMessage, sign } = await openpgp();
  const message = await createMessage({ binary: new Uint8Array(bytes) });
  const signature = await sign({ message, signingKeys: [...keys], detached: true, format: 'binary' });
  return Buffer.from(signature);
}

/** Limit of signatures of one file: checking each takes a pass over the file. */
const MOST_SIGNATURES = 64;

/** Which signatures of a file are good. */
export interface SignatureCheck {
  /** Fingerprints of the given keys with a good signature. */
  readonly good: Set<string>;
  /** Why the other signatures are refused. */
  readonly problems: readonly string[];
}

/**
 * Checks a detached signature. A signature by an expired or revoked key is refused whatever date the signature has: whoever has the key can
 * write any date.
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
    problems.push(signature.length === 0 ? 'the signature is empty or missing' : `the signature cannot be read: ${messageOf(error)}`);
  }
  return { good, problems };
}

/** Fingerprints of the given keys with a good detached signature. */
export const goodSignatures = async (bytes: Buffer, signature: Buffer, keys: readonly PublicKey[]): Promise<Set<string>> =>
  (await checkSignatures(bytes, signature, keys)).good;
