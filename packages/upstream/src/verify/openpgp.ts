import { judgeSignatures, messageOf, shownFingerprint, UserError, type SignatureContext } from '@flatcar/core/engine';
import type { Key } from 'openpgp';

/** Who may sign. */
export interface Signers {
  /** Content of the key file, armored or binary. */
  readonly keys: Buffer;
  /** Whole fingerprints of primary keys. */
  readonly fingerprints: readonly string[];
  /** The key file, for errors. */
  readonly where: string;
}

const ARMOR = /^-----BEGIN PGP/m;
const plain = (fingerprint: string): string => fingerprint.replaceAll(/[\s:]|^0x/gi, '').toLowerCase();

/** The pinned keys of a key file. Throws if a pinned key is missing; ignores keys that are not pinned. */
async function readSigners({ keys, fingerprints, where }: Signers): Promise<Key[]> {
  const openpgp = await import('openpgp');
  const text = keys.toString('latin1');
  // Several armored blocks one after another, such as several outputs of `gpg --export --armor`, are read one by one.
  const blocks = ARMOR.test(text) ? text.split(/(?=^-----BEGIN PGP)/m).filter((block) => ARMOR.test(block)) : undefined;
  let known: Key[];
  try {
    known =
      blocks === undefined
        ? await openpgp.readKeys({ binaryKeys: keys })
        : (await Promise.all(blocks.map((armoredKeys) => openpgp.readKeys({ armoredKeys })))).flat();
  } catch (cause) {
    throw new UserError(`the key file cannot be read: ${messageOf(cause)}`, { where, cause });
  }
  if (fingerprints.length === 0)
    throw new UserError('no fingerprint is pinned', { where, next: 'list the keys that may sign in `fingerprints`' });
  return fingerprints.flatMap((wanted) => {
    if (!/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(plain(wanted)))
      throw new UserError(`'${wanted}' is not a whole fingerprint`, { where, next: 'write all 40 digits: short key IDs can be forged' });
    const found = known.filter((key) => key.getFingerprint() === plain(wanted));
    if (found.length === 0)
      throw new UserError(`the key file has no key ${shownFingerprint(plain(wanted))}`, {
        where,
        next: 'correct the fingerprint or the key file',
      });
    return found;
  });
}

type Verified = Parameters<typeof judgeSignatures>[0];

/** The fingerprint of the pinned key that made one of the signatures. Throws the first problem if none is good. */
async function signerOf(signatures: Verified, keys: readonly Key[], context: SignatureContext): Promise<string> {
  const next = 'do not pin this: upstream changed its key, or the file was modified on the way';
  const unknown = (id: string): string => `signed by key ${id}, which is not pinned`;
  const problems: UserError[] = [];
  for (const verdict of await judgeSignatures(signatures, keys, { ...context, next, unknown })) {
    if (verdict.problem === undefined) return verdict.key.getFingerprint().toUpperCase();
    problems.push(verdict.problem);
  }
  throw problems[0] ?? new UserError('the file has no PGP signature', { where: context.where, next });
}

/** Most signatures of one file: each takes a pass over the file. */
const MOST_SIGNATURES = 64;

function assertFew(signatures: number, where: string): void {
  if (signatures > MOST_SIGNATURES)
    throw new UserError(`the file has ${signatures} PGP signatures; at most ${MOST_SIGNATURES} are checked`, {
      where,
      next: 'do not pin this: find out what upstream publishes there',
    });
}

/** Throws for a signature with unknown fields (a type, an algorithm), which the library reports by its own error. */
function damaged(cause: unknown, where: string): never {
  throw new UserError(`bad PGP signature: ${messageOf(cause)}`, {
    where,
    next: 'do not pin this: find out what upstream publishes there',
    cause,
  });
}

/** Checks a detached signature, armored or binary, and returns the fingerprint of the key that made it. */
export async function verifyDetached(data: Uint8Array, signature: Buffer, signers: Signers, where: string): Promise<string> {
  const openpgp = await import('openpgp');
  const keys = await readSigners(signers);
  const read = ARMOR.test(signature.toString('latin1'))
    ? openpgp.readSignature({ armoredSignature: signature.toString('utf8') })
    : openpgp.readSignature({ binarySignature: signature });
  const parsed = await read.catch((cause: unknown) => {
    throw new UserError(`not a PGP signature: ${messageOf(cause)}`, { where, cause });
  });
  assertFew(parsed.packets.length, where);
  const message = await openpgp.createMessage({ binary: data });
  const { signatures } = await openpgp
    .verify({ message, signature: parsed, verificationKeys: keys, format: 'binary' })
    .catch((cause: unknown) => damaged(cause, where));
  return signerOf(signatures, keys, { where, keyFile: signers.where, bytes: data });
}

/** Checks a cleartext-signed message, and returns only the signed text, with the fingerprint of the key that signed it. */
export async function verifyClearsigned(text: string, signers: Signers, where: string): Promise<{ text: string; by: string }> {
  const openpgp = await import('openpgp');
  const keys = await readSigners(signers);
  const message = await openpgp.readCleartextMessage({ cleartextMessage: text }).catch((cause: unknown) => {
    throw new UserError(`not a PGP-signed text: ${messageOf(cause)}`, {
      where,
      next: 'if the signature is a separate file, specify its `url` in the definition',
      cause,
    });
  });
  assertFew(message.getSigningKeyIDs().length, where);
  const { data, signatures } = await openpgp.verify({ message, verificationKeys: keys }).catch((cause: unknown) => damaged(cause, where));
  return { text: data, by: await signerOf(signatures, keys, { where, keyFile: signers.where }) };
}
