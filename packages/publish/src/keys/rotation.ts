import { readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { fsync, UserError } from '@flatcar/core/engine';
import { addSumsKey, FORMER, namesIn, NEXT, PUBLIC, SIGNING, writePublic } from './key-files.ts';
import { readPrivateKeys } from './openpgp.ts';

/** Numbers of the OpenPGP keys of a folder whose files have a suffix. */
async function idsOf(dir: string, suffix: string): Promise<number[]> {
  const names = await namesIn(join(dir, 'sums'));
  return names.filter((name) => name.endsWith(suffix)).map((name) => Number.parseInt(name, 10));
}

/** Writes the public half of a next key, which a killed run did not write. */
async function completePublic(dir: string, id: number): Promise<boolean> {
  const file = join(dir, 'sums', `${id}${NEXT}`);
  const [key] = await readPrivateKeys(await readFile(file, 'utf8'), file);
  if (key === undefined) return false;
  await writePublic(join(dir, 'sums', `${id}${PUBLIC}`), key.toPublic().armor());
  return true;
}

/**
 * Begins to rotate the OpenPGP key: the published keyring gets the public half of the next key, which does not sign yet. gpg, and
 * systemd-sysupdate with it, refuses a file with two signatures unless it knows both keys [tried]: so keyrings overlap, not signatures.
 * Returns the file of the next private key.
 */
export async function beginRotation(dir: string): Promise<string> {
  const ids = await idsOf(dir, PUBLIC);
  if (ids.length === 0)
    throw new UserError('this folder contains no set of keys', { where: dir, next: 'flatcar-ext keys init DIR makes one' });
  const [begun] = await idsOf(dir, NEXT);
  if (begun !== undefined && (ids.includes(begun) || !(await completePublic(dir, begun))))
    throw new UserError('a rotation is already in progress', {
      where: dir,
      next: 'when all nodes have the new keyring: flatcar-ext keys rotate --finish',
    });
  if (begun !== undefined) return join(dir, 'sums', `${begun}${NEXT}`);
  const id = String(Math.max(...ids) + 1);
  await addSumsKey(dir, id, NEXT);
  return join(dir, 'sums', `${id}${NEXT}`);
}

/**
 * Ends a rotation: from now on only the next key signs. The public half of the former key stays in the keyring for the files that the key
 * signed. Returns the file of the key that signs.
 */
export async function finishRotation(dir: string): Promise<string> {
  const [next] = await idsOf(dir, NEXT);
  if (next === undefined) throw new UserError('no rotation is in progress', { where: dir, next: 'flatcar-ext keys rotate DIR begins one' });
  const former = await idsOf(dir, SIGNING);
  const path = (id: number, suffix: string): string => join(dir, 'sums', `${id}${suffix}`);
  // The former key ends first: if this run is killed in between, no key signs until it is run again, instead of two.
  for (const id of former) await rename(path(id, SIGNING), path(id, FORMER));
  await rename(path(next, NEXT), path(next, SIGNING));
  await fsync(join(dir, 'sums'));
  return path(next, SIGNING);
}
