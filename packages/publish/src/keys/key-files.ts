import { access, link, readdir, readFile, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fsync, PUBLIC_FILE, temporaryBeside, UserError, writeAtomic } from '@flatcar/core/engine';
import { generateKey } from './openpgp.ts';

/** Suffix of an OpenPGP private key that signs. */
export const SIGNING = '.key.asc';
/** Suffix of an OpenPGP private key that is announced and does not sign yet. */
export const NEXT = '.next.asc';
/** Suffix of an OpenPGP private key that no longer signs. */
export const FORMER = '.old.asc';
/** Suffix of the public half of any of them. */
export const PUBLIC = '.pub.asc';

/** True if a path exists. */
export const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** Names in a folder; none if the folder is missing. */
export const namesIn = (dir: string): Promise<string[]> =>
  readdir(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });

/** Refuses a private key that other users can read. */
export async function assertPrivate(file: string): Promise<void> {
  if (((await stat(file)).mode & 0o077) !== 0)
    throw new UserError('others can read this private key', { where: file, next: `chmod 600 ${file}` });
}

/** Texts of the files in a folder whose names have a suffix; `secret` ones must not be readable by others. */
export async function textsOf(dir: string, suffix: string, secret: boolean): Promise<{ where: string; text: string }[]> {
  const names = (await namesIn(dir)).filter((name) => name.endsWith(suffix)).toSorted();
  return Promise.all(
    names.map(async (name) => {
      const where = join(dir, name);
      if (secret) await assertPrivate(where);
      return { where, text: await readFile(where, 'utf8') };
    }),
  );
}

/** Writes a private key as a whole, so that it survives a power cut. Never overwrites a file. */
export async function writePrivate(file: string, text: string | Buffer): Promise<void> {
  const temporary = await temporaryBeside(file);
  try {
    await writeAtomic(temporary, text, 0o600);
    await link(temporary, file);
  } finally {
    await rm(temporary, { force: true });
  }
  await fsync(dirname(file));
}

/** Writes the public half of a key, readable for others. */
export const writePublic = (file: string, text: string): Promise<void> => writeAtomic(file, text, PUBLIC_FILE);

/** Adds an OpenPGP key to a folder of keys: the private half first, because the public half can be derived from it. */
export async function addSumsKey(dir: string, id: string, suffix: string): Promise<void> {
  const { privateKey, publicKey } = await generateKey(`Flatcar extensions (${id})`);
  await writePrivate(join(dir, 'sums', `${id}${suffix}`), privateKey);
  await writePublic(join(dir, 'sums', `${id}${PUBLIC}`), publicKey);
}
