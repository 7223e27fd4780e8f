import { UserError, UserErrors } from '@flatcar/core/engine';
import type { Input } from './inputs.ts';
import { KEYS } from '../tree/layout.ts';
import { readKeyring } from '../keys/openpgp.ts';
import type { PublishOptions } from './options.ts';

/** Refuses new disk images without a signature of their roothash, unless that is meant: a published name never changes its bytes. */
export function checkSigned(images: readonly Input[], { unsigned = false }: Pick<PublishOptions, 'unsigned'>): void {
  const lacking = images.filter(({ manifest }) => manifest.format === 'ddi' && manifest.signed !== true);
  if (lacking.length === 0 || unsigned) return;
  throw new UserErrors(
    `${lacking.length} disk images have no signature of their roothash; nothing was published`,
    lacking.slice(0, 5).map(
      ({ file }) =>
        new UserError('not for publishing: the roothash is not signed', {
          where: file,
          next: 'bind it with the key: --keys DIR, or FLATCAR_EXT_ROOTHASH_KEY and FLATCAR_EXT_ROOTHASH_CERTIFICATE; or pass --unsigned',
        }),
    ),
  );
}

/**
 * Refuses to leave the official layout out silently: at the first publish, which decides it for the tree, and where the tree has update
 * payloads and `missing` images would get one.
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
      next: 'set it, or give --keys DIR with update/*.key.pem; to publish without the official layout, pass --unsigned',
    },
  );
}

/**
 * Refuses to take a key out of the published keyring that nodes may rely on (the next one of a rotation, or the one before), unless that is
 * meant. What only the tree vouches for is never carried on: whoever can write the bucket could add a key.
 */
export async function checkKeyring({ destination, keys, dropKeys = false }: PublishOptions): Promise<void> {
  const bytes = dropKeys ? undefined : await destination.read(KEYS.keyring);
  if (bytes === undefined) return;
  const known = new Set(keys.trusted.map((key) => key.getFingerprint()));
  const lost = (await readKeyring(bytes, `${destination.where}/${KEYS.keyring}`)).filter((key) => !known.has(key.getFingerprint()));
  if (lost.length === 0) return;
  throw new UserError(
    `the published keyring has a key that this publish would take away: ${lost.map((key) => key.getFingerprint().toUpperCase()).join(', ')}`,
    {
      where: `${destination.where}/${KEYS.keyring}`,
      next: 'pass --keyring FILE with all keys that nodes are to know (.github/keyring.gpg in the workflows); if the key is to leave, pass --drop-keys; if nobody knows it, look into who wrote it',
    },
  );
}
