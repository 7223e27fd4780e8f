import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { join } from 'node:path';
import { envOf, UserError, type Environment } from '@flatcar/core/engine';
import { MetadataKind } from '@tufjs/models';
import { exists, namesIn, textsOf, writePrivate, writePublic } from './key-files.ts';
import { metadataBytes, metadataKey, ONLINE_ROLES, ROLES, type Role } from '../metadata/metadata.ts';
import { firstRoot, readRoots, ROOT_KEYS, type RootFile, type RoleKeys } from '../metadata/root.ts';
import { ROLE_VARIABLES } from '../metadata/sign-tree.ts';

/** Folder of a set of keys with the roots (`<n>.root.json`) and the ed25519 keys of the roles. */
export const METADATA_KEYS = 'metadata';
/** Suffix of a key that signs. */
export const ROLE_KEY = '.key.pem';
/** Suffix of a key that the newest root no longer lists: it signs as well until that root is published. */
export const FORMER_ROLE_KEY = '.old.pem';
/** Suffix of a key that was revoked: it signs nothing. */
export const REVOKED_ROLE_KEY = '.revoked.pem';

/** Keys and roots that sign and verify the metadata of a tree. */
export interface MetadataKeys {
  /** The root of trust: consecutive versions, oldest first. */
  readonly roots: readonly RootFile[];
  /** Private keys of targets, snapshot and timestamp. */
  readonly signing: readonly KeyObject[];
}

/** A new ed25519 key. */
export const newRoleKey = (): KeyObject => generateKeyPairSync('ed25519').privateKey;

/** Writes a role's private key. */
export const writeRoleKey = (file: string, key: KeyObject): Promise<void> =>
  writePrivate(file, key.export({ type: 'pkcs8', format: 'pem' }));

const PEM = /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----/g;

/** Reads ed25519 private keys (PEM). Errors name `where` and never contain the key. */
export function readRoleKeys(text: string, where: string): KeyObject[] {
  const keys = (text.match(PEM) ?? []).map((pem) => {
    try {
      return createPrivateKey(pem);
    } catch {
      throw new UserError('not a valid private key in PEM', { where });
    }
  });
  if (keys.length === 0 || keys.some(({ asymmetricKeyType }) => asymmetricKeyType !== 'ed25519'))
    throw new UserError('metadata needs an ed25519 key in PEM (PKCS #8)', { where, next: 'flatcar-ext keys init makes one' });
  return keys;
}

/** Writes the first root and the keys of all roles into a new set of keys. */
export async function writeRoleKeys(dir: string, now: Date): Promise<void> {
  const counts: Readonly<Record<Role, number>> = { root: ROOT_KEYS, targets: 1, snapshot: 1, timestamp: 1 };
  const keys = Object.fromEntries(ROLES.map((role) => [role, Array.from({ length: counts[role] }, newRoleKey)])) as unknown as RoleKeys;
  for (const role of ROLES)
    for (const [index, key] of keys[role].entries()) await writeRoleKey(join(dir, METADATA_KEYS, `${role}-${index + 1}${ROLE_KEY}`), key);
  await writePublic(join(dir, METADATA_KEYS, '1.root.json'), metadataBytes(firstRoot(keys, now)).toString());
}

/** A private key of a folder. */
export interface RoleKeyFile {
  readonly file: string;
  readonly role: Role;
  readonly id: string;
  readonly key: KeyObject;
}

/** Private keys of a folder whose files have a suffix. */
export async function roleKeyFiles(dir: string, suffix: string = ROLE_KEY): Promise<RoleKeyFile[]> {
  const folder = join(dir, METADATA_KEYS);
  const texts = await textsOf(folder, suffix, true);
  return texts.flatMap(({ where, text }) => {
    const role = ROLES.find((one) => where.startsWith(join(folder, `${one}-`)));
    return role === undefined ? [] : readRoleKeys(text, where).map((key) => ({ file: where, role, id: metadataKey(key).keyID, key }));
  });
}

/** The root of trust that a path names, else that of a folder of keys; undefined if neither has one. */
export async function rootsOf(dir: string | undefined, path: string | undefined): Promise<readonly RootFile[] | undefined> {
  if (path !== undefined) return readRoots(path);
  if (dir === undefined) return undefined;
  const folder = join(dir, METADATA_KEYS);
  return (await exists(folder)) && (await namesIn(folder)).some((name) => name.endsWith('.root.json')) ? readRoots(folder) : undefined;
}

/**
 * Reads the keys of targets, snapshot and timestamp from a folder and from the environment, with the root of trust at `root` (by default that
 * of the folder).
 */
export async function loadMetadataKeys(
  dir: string | undefined,
  env: Environment,
  root: string | undefined = envOf('FLATCAR_EXT_ROOT', env),
): Promise<MetadataKeys> {
  const roots = await rootsOf(dir, root);
  if (roots === undefined)
    throw new UserError('there is no root of trust', {
      where: dir,
      next: 'pass --root with the root.json of the tree, or --keys DIR with a set of keys: flatcar-ext keys init DIR makes one',
      code: 'no-root',
    });
  const files = dir === undefined ? [] : [...(await roleKeyFiles(dir)), ...(await roleKeyFiles(dir, FORMER_ROLE_KEY))];
  const ofEnv = ONLINE_ROLES.flatMap((role) => {
    const text = envOf(ROLE_VARIABLES[role], env);
    return text === undefined ? [] : readRoleKeys(text, `environment variable ${ROLE_VARIABLES[role]}`);
  });
  return { roots, signing: [...files.filter(({ role }) => role !== MetadataKind.Root).map(({ key }) => key), ...ofEnv] };
}
