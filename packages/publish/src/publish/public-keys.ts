import { basename } from 'node:path';
import { UserError, type Report } from '@flatcar/core/engine';
import { ConflictError, type Destination } from '../destinations/destination.ts';
import { publicPem, type PublishKeys } from '../keys/keys.ts';
import { KEYS } from '../tree/layout.ts';
import { keyringOf } from '../keys/openpgp.ts';
import type { Index, ListedKey } from '../tree/schema.ts';
import { sha256Of } from '../tree/digest.ts';

/** Public keys for nodes. */
export interface PublicKeys {
  /** Files of the folder `keys/` by name. */
  readonly files: ReadonlyMap<string, Buffer>;
  /** What the index lists of them. */
  readonly listed: readonly ListedKey[];
  /** Paths of published files that no index lists and that this publish cannot vouch for. */
  readonly dropped: readonly string[];
}

const mismatch = (where: string): UserError =>
  new UserError('the file does not match the signed index', {
    where,
    next: 'find out who replaced it; to restore it, publish with the key itself (--keys DIR, or the environment)',
  });

/**
 * The public keys of a tree. A publisher without a key of a kind keeps the published one, such as the certificate of disk images. A kept file
 * must match the index, which was checked when it was signed.
 * `patient`: another publisher may have replaced a file since the index was read; throws a ConflictError then.
 */
export async function publicKeys(
  destination: Destination,
  { trusted, update, certificate }: PublishKeys,
  before: Index | undefined,
  { patient, report }: { readonly patient: boolean; readonly report?: Report },
): Promise<PublicKeys> {
  const files = new Map<string, Buffer>();
  const listed: ListedKey[] = [];
  const dropped: string[] = [];
  const ours: readonly (readonly [ListedKey['path'], Buffer | undefined])[] = [
    [KEYS.keyring, keyringOf(trusted)],
    [KEYS.certificate, certificate === undefined ? undefined : Buffer.from(certificate)],
    [KEYS.update, update.length === 0 ? undefined : Buffer.from(update.map(publicPem).join(''))],
  ];
  for (const [path, own] of ours) {
    const known = before?.keys.find((one) => one.path === path);
    const bytes = own ?? (await destination.read(path));
    if (own === undefined && known !== undefined && (bytes === undefined || sha256Of(bytes) !== known.sha256)) {
      if (patient) throw new ConflictError(`${destination.where}/${path}`);
      throw mismatch(`${destination.where}/${path}`);
    }
    if (bytes === undefined) continue;
    if (own === undefined && known === undefined) {
      dropped.push(path);
      report?.({
        type: 'notice',
        text: `${destination.where}/${path} is removed: no index lists it, and this publish has no key of its kind; publish with that key to restore it`,
      });
      continue;
    }
    files.set(basename(path), bytes);
    listed.push({ path, size: bytes.length, sha256: sha256Of(bytes) });
  }
  return { files, listed, dropped };
}
