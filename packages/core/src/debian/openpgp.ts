import type { Key } from 'openpgp';
import { clockProblem } from '../util/clock.ts';
import { messageOf, UserError } from '../util/errors.ts';

/** A fingerprint in the form that people compare. */
export const shownFingerprint = (fingerprint: string): string => `0x${fingerprint.toUpperCase()}`;

/**
 * Throws a UserError for a key that is expired or revoked now, or must not sign: the date of a signature by such a key proves nothing.
 * `where` names the file with the key.
 */
export async function assertKeyCanSign(key: Key, keyId: Parameters<Key['getSigningKey']>[0], where: string): Promise<void> {
  const name = shownFingerprint(key.getFingerprint());
  const next = 'get the current key from its owner, and find out why this one ended';
  if (await key.isRevoked()) throw new UserError(`key ${name} is revoked`, { where, next });
  const ends = await key.getExpirationTime();
  if (ends instanceof Date && ends.getTime() <= Date.now())
    throw new UserError(`key ${name} expired on ${ends.toISOString().slice(0, 10)}`, { where, next });
  await key.getSigningKey(keyId).catch((cause: unknown) => {
    throw new UserError(`key ${name} must not sign: ${messageOf(cause)}`, { where, next, cause });
  });
}

/** A signature as openpgp.verify() returns it. */
interface VerifiedSignature {
  readonly keyID: Parameters<Key['getSigningKey']>[0] & { toHex(): string };
  readonly verified: Promise<true>;
  readonly signature: Promise<{ readonly packets: readonly { readonly created?: Date | null; readonly signatureType?: number | null }[] }>;
}

/** The signer of a valid signature, or the problem of an invalid one. */
export type SignatureVerdict = { readonly key: Key; readonly problem?: undefined } | { readonly problem: UserError };

/** Context of a check of signatures, and of its errors. */
export interface SignatureContext {
  /** The signed file. */
  readonly where: string;
  /** The file that contains `keys`. */
  readonly keyFile: string;
  /** Advice for a bad signature. */
  readonly next?: string;
  /** The signed bytes of a detached signature; undefined for a cleartext message, which contains the signed text. */
  readonly bytes?: Uint8Array;
  /** The message for a key id that is not among `keys`. */
  readonly unknown?: (id: string) => string;
}

const CARRIAGE_RETURN = 0x0d;
/** RFC 9580, 5.2.1.2: a signature of a canonical text document. */
const TEXT_SIGNATURE = 0x01;

/**
 * Judges signatures as gpg does, by the current state of the key: an expired or revoked key or subkey does not count, whatever the date of the
 * signature is, because a holder of such a key can write any date. A text signature covers normalized line ends (RFC 9580, 5.2.4), so
 * it does not distinguish LF from CRLF: over bytes with a carriage return it is refused.
 */
export async function judgeSignatures(
  signatures: readonly VerifiedSignature[],
  keys: readonly Key[],
  { where, keyFile, next, bytes, unknown = (id) => `key ${id} is not known` }: SignatureContext,
): Promise<SignatureVerdict[]> {
  for (const { verified } of signatures) verified.catch(() => undefined); // each is awaited below, or not needed
  const judge = async ({ keyID, verified, signature }: VerifiedSignature): Promise<SignatureVerdict> => {
    const key = keys.find((one) => one.getKeys(keyID).length > 0);
    if (key === undefined) return { problem: new UserError(unknown(keyID.toHex().toUpperCase()), { where, next }) };
    const [packet] = (await signature.catch(() => undefined))?.packets ?? [];
    const clock = clockProblem(packet?.created);
    if (clock !== undefined) return { problem: new UserError(clock, { where, next: 'set the clock of this machine' }) };
    if (bytes?.includes(CARRIAGE_RETURN) === true && packet?.signatureType === TEXT_SIGNATURE)
      return {
        problem: new UserError('a text signature does not cover line ends, and this file has carriage returns', {
          where,
          next,
        }),
      };
    try {
      await assertKeyCanSign(key, keyID, keyFile);
      await verified;
      return { key };
    } catch (cause) {
      return {
        problem: cause instanceof UserError ? cause : new UserError(`bad PGP signature: ${messageOf(cause)}`, { where, next, cause }),
      };
    }
  };
  return Promise.all(signatures.map(judge));
}
