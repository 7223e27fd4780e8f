import { constants } from 'node:fs';
import { access, open, rm, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { envOf, temporaryBeside, UserError, type Environment, type SignKeys } from '@flatcar/core/engine';
import { assertPrivate, exists } from './key-files.ts';
import { assertKeysFolder, certificateOf, ROOTHASH_CERTIFICATE } from './keys.ts';

const ROOTHASH_KEY = 'FLATCAR_EXT_ROOTHASH_KEY';

/** The key and certificate of a folder that sign disk images at bind; undefined if the folder has none. */
export async function roothashKeys(dir: string): Promise<SignKeys | undefined> {
  await assertKeysFolder(dir);
  const keys = { key: join(dir, 'roothash.key'), certificate: join(dir, 'roothash.crt') };
  if (!(await exists(keys.key))) return undefined;
  await assertPrivate(keys.key);
  return keys;
}

/**
 * Makes a file that has no name any more, so that nothing of it is left however this process dies; in memory if possible. Child processes
 * open it by the returned path.
 */
async function namelessFile(text: string): Promise<{ path: string; handle: FileHandle }> {
  const memory = await access('/dev/shm', constants.W_OK).then(
    () => '/dev/shm',
    () => tmpdir(),
  );
  const named = await temporaryBeside(join(memory, 'key'));
  const handle = await open(named, 'wx+', 0o600);
  try {
    await rm(named);
    await handle.writeFile(text); // only after its name is gone
    return { path: `/proc/${process.pid}/fd/${handle.fd}`, handle };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * Runs `use` with the files of the key and certificate that sign disk images: those of a folder, else the values of
 * FLATCAR_EXT_ROOTHASH_KEY and FLATCAR_EXT_ROOTHASH_CERTIFICATE in nameless files that only this user can open while this process runs.
 */
export async function withRoothashKeys<T>(
  dir: string | undefined,
  env: Environment,
  use: (keys: SignKeys | undefined) => Promise<T>,
): Promise<T> {
  if (dir !== undefined) {
    const found = await roothashKeys(dir);
    if (found !== undefined) return use(found);
  }
  const key = envOf(ROOTHASH_KEY, env);
  const certificate = await certificateOf(undefined, env);
  if (key === undefined) return use(undefined);
  if (certificate === undefined)
    throw new UserError(`${ROOTHASH_KEY} is set and ${ROOTHASH_CERTIFICATE} is not`, {
      next: 'set the certificate of the key: signing disk images needs both',
    });
  const files: FileHandle[] = [];
  const put = async (text: string): Promise<string> => {
    const { path, handle } = await namelessFile(text);
    files.push(handle);
    return path;
  };
  try {
    return await use({ key: await put(key.endsWith('\n') ? key : `${key}\n`), certificate: await put(certificate) });
  } finally {
    for (const handle of files) await handle.close();
  }
}
