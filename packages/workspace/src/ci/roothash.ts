import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { envOf, UserError } from '@flatcar/core/engine';

/**
 * Calls `use` with the arguments of `bind` for the key that signs disk images: a folder, or temporary files with the content of
 * FLATCAR_EXT_ROOTHASH_KEY and FLATCAR_EXT_ROOTHASH_CERTIFICATE (PEM), the secrets of a CI.
 */
export async function withRoothashKey<T>(keys: string | undefined, use: (args: readonly string[]) => Promise<T>): Promise<T> {
  const [key, certificate] = [envOf('FLATCAR_EXT_ROOTHASH_KEY'), envOf('FLATCAR_EXT_ROOTHASH_CERTIFICATE')];
  if (keys !== undefined && keys !== '') return use(['--keys', keys]);
  if (key === undefined) return use([]);
  if (certificate === undefined) throw new UserError('FLATCAR_EXT_ROOTHASH_KEY is set without FLATCAR_EXT_ROOTHASH_CERTIFICATE');
  const { openStore } = await import('@flatcar/core/engine');
  return openStore().withTemp(async (temp) => {
    const files = [join(temp, 'roothash.key'), join(temp, 'roothash.crt')] as const;
    await writeFile(files[0], key, { mode: 0o600 });
    await writeFile(files[1], certificate);
    return use(['--key', files[0], '--certificate', files[1]]);
  });
}
