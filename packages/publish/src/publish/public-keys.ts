import { basename } from 'node:path';
import { UserError, type Report } from '@flatcar/core/engine';
import { ConflictError, type Destination } from '../destinations/destination.ts';
import { publicPem, type PublishKeys } from '../keys/keys.ts';
import { KEYS } from '../tree/layout.ts';
import { keyringOf } from '../keys/openpgp.ts';
import type { Index, ListedKey } from '../tree/schema.ts';
import { sha256Of } from '../tree/digest.ts';

/** Public keys as nodes take them. */
export interface PublicKeys {
  /** Files of the folder `keys/`, by their names. */
  readonly files: ReadonlyMap<string, Buffer>;
  /** Those that the index lists: nothing else tells whoever reads them that they are the publisher's. */
  readonly listed: readonly ListedKey[];
  /** Paths of files that are served and that nobody vouches for. */
  readonly dropped: readonly string[];
}

const mismatch = (where: string): UserError =>
  new UserError('the file does not match the signed index', {
    where,
    next: 'find out who replaced it; publish with the key itself (--keys DIR, or the environment) to put it back',
  });

/**
 * The public keys of a tree. A publisher that has no key of a kind leaves what is published of it: the certificate of disk images does not go
 * because one publish signs none. What is left must be what the index lists, which was checked when it was signed.
 * `patient`: another publisher may have replaced a file since the index was read, which is a ConflictError then.
 */
export async function publicKeys(
  destination: Destination,
  { trusted, update, certificate }: PublishKeys,
  before: Index | undefined,
  { patient, report = () => undefined }: { readonly patient: boolean; readonly report?: Report },
): Promise<PublicKeys> {
  const files = new Map([[basename(KEYS.keyring), keyringOf(trusted)]]);
  const listed: ListedKey[] = [];
  const dropped: string[] = [];
  const ours: readonly (readonly [ListedKey['path'], Buffer | undefined])[] = [
    [KEYS.certificate, certificate === undefined ? undefined : Buffer.from(certificate)],
    [KEYS.update, update.length === 0 ? undefined : Buffer.from(update.map(publicPem).join(''))],
  ];
  for (const [path, own] of ours) {
    const known = before?.keys?.find((one) => one.path === path);
    const bytes = own ?? (await destination.read(path));
    if (own === undefined && known !== undefined && (bytes === undefined || sha256Of(bytes) !== known.sha256)) {
      if (patient) throw new ConflictError(`${destination.where}/${path}`);
      throw mismatch(`${destination.where}/${path}`);
    }
    if (bytes === undefined) continue;
    if (own === undefined && known === undefined) {
      dropped.push(path);
      report({
        type: 'notice',
        text: `${destination.where}/${path} is taken away: no index lists it and this publish has no key of its kind; publish with that key to have it again`,
      });
      continue;
    }
    files.set(basename(path), bytes);
    listed.push({ path, size: bytes.length, sha256: sha256Of(bytes) });
  }
  return { files, listed, dropped };
}
