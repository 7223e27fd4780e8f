import { judgeSignatures, messageOf, shownFingerprint as shown, UserError, type SignatureContext } from '@flatcar/core/engine';
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

/** The pinned keys of a key file. Every pinned fingerprint must be there; keys that are not pinned do not count. */
async function readSigners({ keys, fingerprints, where }: Signers): Promise<Key[]> {
  const openpgp = await import('openpgp');
  const text = keys.toString('latin1');
  // A file of several armored blocks, as `gpg --export --armor` makes them one after another, is read block by block.
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
  if (fingerprints.length === 0) throw new UserError('no fingerprint is pinned', { where, next: 'name the keys that may sign' });
  return fingerprints.flatMap((wanted) => {
    if (!/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(plain(wanted)))
      throw new UserError(`'${wanted}' is no whole fingerprint`, { where, next: 'write all 40 digits; short key ids can be forged' });
    const found = known.filter((key) => key.getFingerprint() === plain(wanted));
    if (found.length === 0)
      throw new UserError(`the key file has no key ${shown(plain(wanted))}`, { where, next: 'correct the fingerprint or the key file' });
    return found;
  });
}

type Verified = Parameters<typeof judgeSignatures>[0];

/** The fingerprint of the pinned key that made one of the signatures; throws when none is good. */
async function signerOf(signatures: Verified, keys: readonly Key[], context: SignatureContext): Promise<string> {
  const next = 'do not pin this: upstream changed its key, or something on the way changed the file';
  const unknown = (id: string): string => `signed by key ${id}, which is not pinned`;
  const problems: UserError[] = [];
  for (const verdict of await judgeSignatures(signatures, keys, { ...context, next, unknown })) {
    if (verdict.problem === undefined) return shown(verdict.key.getFingerprint());
    problems.push(verdict.problem);
  }
  throw problems[0] ?? new UserError('there is no PGP signature in this file', { where: context.where, next });
}

/** Signatures of one file that are checked: each takes a pass over the file. */
const MOST_SIGNATURES = 64;

function assertFew(signatures: number, where: string): void {
  if (signatures > MOST_SIGNATURES)
    throw new UserError(`there are ${signatures} PGP signatures in this file, more than the ${MOST_SIGNATURES} that are checked`, {
      where,
      next: 'do not pin this: look into what upstream publishes there',
    });
}

/** A signature whose fields nobody can make sense of (a type, an algorithm), which the library does not count as a bad one. */
function damaged(cause: unknown, where: string): never {
  throw new UserError(`bad PGP signature: ${messageOf(cause)}`, {
    where,
    next: 'do not pin this: look into what upstream publishes there',
    cause,
  });
}

/** Checks a detached signature, armored or binary. Gives the fingerprint of the key that made it. */
export async function verifyDetached(data: Uint8Array, signature: Buffer, signers: Signers, where: string): Promise<string> {
  const openpgp = await import('openpgp');
  const keys = await readSigners(signers);
  const read = ARMOR.test(signature.toString('latin1'))
    ? openpgp.readSignature({ armoredSignature: signature.toString('utf8') })
    : openpgp.readSignature({ binarySignature: signature });
  const parsed = await read.catch((cause: unknown) => {
    throw new UserError(`this is no PGP signature: ${messageOf(cause)}`, { where, cause });
  });
  assertFew(parsed.packets.length, where);
  const message = await openpgp.createMessage({ binary: data });
  const { signatures } = await openpgp
    .verify({ message, signature: parsed, verificationKeys: keys, format: 'binary' })
    .catch((cause: unknown) => damaged(cause, where));
  return signerOf(signatures, keys, { where, keyFile: signers.where, bytes: data });
}

/** Checks a cleartext-signed message. Gives what was signed, and nothing that stands around it, with the fingerprint of the key. */
export async function verifyClearsigned(text: string, signers: Signers, where: string): Promise<{ text: string; by: string }> {
  const openpgp = await import('openpgp');
  const keys = await readSigners(signers);
  const message = await openpgp.readCleartextMessage({ cleartextMessage: text }).catch((cause: unknown) => {
    throw new UserError(`this is no PGP-signed text: ${messageOf(cause)}`, {
      where,
      next: 'if the signature is a file of its own, give its `url` in the definition',
      cause,
    });
  });
  assertFew(message.getSigningKeyIDs().length, where);
  const { data, signatures } = await openpgp.verify({ message, verificationKeys: keys }).catch((cause: unknown) => damaged(cause, where));
  return { text: data, by: await signerOf(signatures, keys, { where, keyFile: signers.where }) };
}
