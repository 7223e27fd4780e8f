import { UserError, UserErrors } from '@flatcar/core/engine';
import type { Input } from './inputs.ts';
import { KEYS } from '../tree/layout.ts';
import { readKeyring } from '../keys/openpgp.ts';
import type { PublishOptions } from './options.ts';

/** Refuses new disk images without a signature of their roothash, unless `unsigned`: a published name never changes its bytes. */
export function checkSigned(images: readonly Input[], { unsigned = false }: Pick<PublishOptions, 'unsigned'>): void {
  const lacking = images.filter(({ manifest }) => manifest.format === 'ddi' && manifest.signed !== true);
  if (lacking.length === 0 || unsigned) return;
  throw new UserErrors(
    `${lacking.length} disk images have no signature of their roothash; nothing was published`,
    lacking.slice(0, 5).map(
      ({ file }) =>
        new UserError('cannot be published: the roothash is not signed', {
          where: file,
          next: 'bind it with the key: --keys DIR, or FLATCAR_EXT_ROOTHASH_KEY and FLATCAR_EXT_ROOTHASH_CERTIFICATE; or pass --unsigned',
        }),
    ),
  );
}

/**
 * Refuses to omit the official layout silently: at the first publish, which decides for the tree, and if the tree has update payloads and
 * `missing` images need one.
 */
export function checkUpdateKey(
  missing: number,
  isFirst: boolean,
  hasPackages: boolean,
  { keys, unsigned = false }: Pick<PublishOptions, 'keys' | 'unsigned'>,
): void {
  if (keys.update.length > 0 || unsigned || !(isFirst || (hasPackages && missing > 0))) return;
  throw new UserError(
    isFirst
      ? 'there is no key for update payloads'
      : `this tree has update payloads, and there is no key to sign those of ${missing} new images`,
    {
      where: 'FLATCAR_EXT_UPDATE_KEY',
      next: 'set it, or pass --keys DIR with update/*.key.pem; to publish without the official layout, pass --unsigned',
    },
  );
}

/**
 * Refuses to remove a key from the published keyring that nodes may need (the next or the former key of a rotation), unless `dropKeys`. Keys
 * that only the tree has are never kept: whoever can write the bucket could add one.
 */
export async function checkKeyring({ destination, keys, dropKeys = false }: PublishOptions): Promise<void> {
  const bytes = dropKeys ? undefined : await destination.read(KEYS.keyring);
  if (bytes === undefined) return;
  const known = new Set(keys.trusted.map((key) => key.getFingerprint()));
  const removed = (await readKeyring(bytes, `${destination.where}/${KEYS.keyring}`)).filter((key) => !known.has(key.getFingerprint()));
  if (removed.length === 0) return;
  throw new UserError(
    `this publish would remove a key from the published keyring: ${removed.map((key) => key.getFingerprint().toUpperCase()).join(', ')}`,
    {
      where: `${destination.where}/${KEYS.keyring}`,
      next: 'pass --keyring FILE with all keys that nodes must know (.github/keyring.gpg in the workflows); to remove the key, pass --drop-keys; if the key is unknown, find out who wrote it',
    },
  );
}
