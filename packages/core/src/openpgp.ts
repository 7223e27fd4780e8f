import type { Key } from 'openpgp';
import { messageOf, UserError } from './errors.ts';

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
