import type { Key } from 'openpgp';
import { clockProblem } from '../util/clock.ts';
import { messageOf, UserError } from '../util/errors.ts';

/** A fingerprint as people compare it. */
export const shownFingerprint = (fingerprint: string): string => `0x${fingerprint.toUpperCase()}`;

/**
 * Refuses a key that has expired or is revoked now, or must not sign: with such a key, a signature's own date proves nothing.
 * `where` names the file that the key is from.
 */
export async function assertKeyCanSign(key: Key, keyId: Parameters<Key['getSigningKey']>[0], where: string): Promise<void> {
  const name = shownFingerprint(key.getFingerprint());
  const next = 'get the current key from its owner, and look into why this one ended';
  if (await key.isRevoked()) throw new UserError(`key ${name} is revoked`, { where, next });
  const ends = await key.getExpirationTime();
  if (ends instanceof Date && ends.getTime() <= Date.now())
    throw new UserError(`key ${name} expired on ${ends.toISOString().slice(0, 10)}`, { where, next });
  await key.getSigningKey(keyId).catch((cause: unknown) => {
    throw new UserError(`key ${name} must not sign: ${messageOf(cause)}`, { where, next, cause });
  });
}

/** A signature as openpgp.verify() gives it. */
interface VerifiedSignature {
  readonly keyID: Parameters<Key['getSigningKey']>[0] & { toHex(): string };
  readonly verified: Promise<true>;
  readonly signature: Promise<{ readonly packets: readonly { readonly created?: Date | null; readonly signatureType?: number | null }[] }>;
}

/** What a signature is worth now. */
export type SignatureVerdict = { readonly key: Key; readonly problem?: undefined } | { readonly problem: UserError };

/** How signatures are checked, and what errors about them say. */
export interface SignatureContext {
  /** The signed file. */
  readonly where: string;
  /** The file that `keys` are from. */
  readonly keyFile: string;
  /** What to do when a signature is bad. */
  readonly next?: string;
  /** The bytes that a detached signature is over; not specified for a cleartext message, whose text is the one that was signed. */
  readonly bytes?: Uint8Array;
  /** What is said of a key that is not among `keys`, by its id. */
  readonly unknown?: (id: string) => string;
}

const CARRIAGE_RETURN = 0x0d;
/** RFC 9580, 5.2.1.2: a signature of a canonical text document. */
const TEXT_SIGNATURE = 0x01;

/**
 * Judges signatures as gpg does, with the key as it is now: a key or subkey that has expired or is revoked does not count, however old the
 * signature says that it is, since whoever has such a key can write any date. A text signature is over line ends in one form (RFC 9580, 5.2.4),
 * so it does not tell LF from CRLF: over bytes with a carriage return it is refused.
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
        problem: new UserError('a text signature does not say which line ends were signed, and this file has carriage returns', {
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
