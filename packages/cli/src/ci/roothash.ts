import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError } from '@flatcar/core';

/**
 * Arguments of bind for the key that signs disk images: a folder, or what FLATCAR_EXT_ROOTHASH_KEY and _CERTIFICATE hold (PEM), as secrets
 * of a CI are given, in files that are gone afterwards.
 */
export async function withRoothashKey<T>(keys: string | undefined, use: (args: readonly string[]) => Promise<T>): Promise<T> {
  const { FLATCAR_EXT_ROOTHASH_KEY: key, FLATCAR_EXT_ROOTHASH_CERTIFICATE: certificate } = process.env;
  if (keys !== undefined) return use(['--keys', keys]);
  if (key === undefined || key === '') return use([]);
  if (certificate === undefined || certificate === '')
    throw new UserError('FLATCAR_EXT_ROOTHASH_KEY is set without FLATCAR_EXT_ROOTHASH_CERTIFICATE');
  const { openStore } = await import('@flatcar/core');
  return openStore().withTemp(async (temp) => {
    const files = [join(temp, 'roothash.key'), join(temp, 'roothash.crt')] as const;
    await writeFile(files[0], key, { mode: 0o600 });
    await writeFile(files[1], certificate);
    return use(['--key', files[0], '--certificate', files[1]]);
  });
}
