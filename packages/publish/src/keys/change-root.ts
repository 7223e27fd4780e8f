import { readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { KeyObject } from 'node:crypto';
import { UserError } from '@flatcar/core/engine';
import { MetadataKind, type Metadata, type Root } from '@tufjs/models';
import { assertPrivate, exists, namesIn, writePublic } from './key-files.ts';
import { isSuccessor, isTrusted, metadataBytes, metadataKey, parseMetadata, ROLES, signMetadata, type Role } from '../metadata/metadata.ts';
import {
  FORMER_ROLE_KEY,
  METADATA_KEYS,
  newRoleKey,
  readRoleKeys,
  REVOKED_ROLE_KEY,
  ROLE_KEY,
  roleKeyFiles,
  writeRoleKey,
} from './role-keys.ts';
import { nextRoot, readRoots } from '../metadata/root.ts';

/** The root that waits for signatures of root keys. */
const PENDING = 'next.root.json';

/** What a change of keys has led to. */
export interface RootChange {
  /** Version of the new root. */
  readonly version: number;
  /** IDs of root keys that have signed it, and that must still sign it: so many of these. */
  readonly signed: readonly string[];
  readonly missing: { readonly count: number; readonly of: readonly string[] };
  /** Its file: `<n>.root.json` once it is complete. */
  readonly file: string;
  /** The new private keys. */
  readonly added: readonly string[];
}

/** Root keys in a folder of keys and in other files, which may be on other media. */
async function rootKeys(dir: string, files: readonly string[]): Promise<KeyObject[]> {
  const own = [...(await roleKeyFiles(dir)), ...(await roleKeyFiles(dir, FORMER_ROLE_KEY))].filter(
    ({ role }) => role === MetadataKind.Root,
  );
  const others = await Promise.all(
    files.map(async (file) => {
      if (!(await exists(file))) throw new UserError('there is no such root key', { where: file });
      await assertPrivate(file);
      return readRoleKeys(await readFile(file, 'utf8'), file);
    }),
  );
  return [...own.map(({ key }) => key), ...others.flat()];
}

/** How many more signatures a root needs by its own threshold or by that of the root before it, and whose. */
function missingSignatures(before: Metadata<Root>, next: Metadata<Root>): RootChange['missing'] {
  const missingOf = (root: Metadata<Root>): RootChange['missing'] => {
    const { keyIDs = [], threshold = 0 } = root.signed.roles[MetadataKind.Root] ?? {};
    const left = keyIDs.filter((id) => next.signatures[id] === undefined);
    return { count: isTrusted(root, MetadataKind.Root, next) ? 0 : threshold - (keyIDs.length - left.length), of: left };
  };
  const former = missingOf(before);
  return former.count > 0 ? former : missingOf(next);
}

/** Signs a new root with the root keys at hand, and completes it if the thresholds of both roots are reached. */
async function signNext(
  dir: string,
  before: Metadata<Root>,
  next: Metadata<Root>,
  files: readonly string[],
): Promise<Omit<RootChange, 'added'>> {
  const listed = new Set([before, next].flatMap(({ signed }) => signed.roles[MetadataKind.Root]?.keyIDs ?? []));
  signMetadata(
    next,
    (await rootKeys(dir, files)).filter((key) => listed.has(metadataKey(key).keyID)),
  );
  const folder = join(dir, METADATA_KEYS);
  const { version } = next.signed;
  const isComplete = isSuccessor(before, next);
  const pending = join(folder, PENDING);
  await writePublic(pending, metadataBytes(next).toString());
  const file = isComplete ? join(folder, `${version}.root.json`) : pending;
  if (isComplete) await rename(pending, file);
  return { version, signed: Object.keys(next.signatures), missing: missingSignatures(before, next), file };
}

/** The newest root of a folder, and the one that waits for signatures, if any. */
async function rootsIn(dir: string): Promise<{ last: Metadata<Root>; pending: Metadata<Root> | undefined }> {
  const folder = join(dir, METADATA_KEYS);
  const last = (await readRoots(folder)).at(-1)?.root;
  if (last === undefined) throw new Error('readRoots returns a root');
  const file = join(folder, PENDING);
  return { last, pending: (await exists(file)) ? parseMetadata(MetadataKind.Root, await readFile(file), file) : undefined };
}

/** The next free number of a role's keys. Files may be on other media: each root has added as many keys as the role has at most. */
async function nextNumber(dir: string, role: Role, { signed }: Metadata<Root>): Promise<number> {
  const names = await namesIn(join(dir, METADATA_KEYS));
  const numbers = names.filter((name) => name.startsWith(`${role}-`)).map((name) => Number.parseInt(name.slice(role.length + 1), 10));
  return Math.max((signed.roles[role]?.keyIDs.length ?? 0) * signed.version, ...numbers) + 1;
}

/**
 * Replaces keys of a role by new ones in a new root. The former keys keep the suffix `.old.pem` and sign as well until the new root is
 * published, or get `.revoked.pem` and sign nothing any more. Without enough root keys at hand, the new root waits for `signRoot`.
 */
async function replaceKeys(
  dir: string,
  role: Role,
  ids: readonly string[],
  { rootKeys: files, suffix }: { readonly rootKeys: readonly string[]; readonly suffix: string },
): Promise<RootChange> {
  const { last, pending } = await rootsIn(dir);
  if (pending !== undefined)
    throw new UserError(`root ${pending.signed.version} still waits for signatures`, {
      where: join(dir, METADATA_KEYS, PENDING),
      next: 'flatcar-ext keys sign DIR --root-key FILE',
    });
  const replaced = new Map<string, KeyObject>();
  const added: string[] = [];
  const first = await nextNumber(dir, role, last);
  for (const [index, id] of ids.entries()) {
    const key = newRoleKey();
    const file = join(dir, METADATA_KEYS, `${role}-${first + index}${ROLE_KEY}`);
    await writeRoleKey(file, key);
    replaced.set(id, key);
    added.push(file);
  }
  // The former root keys sign the new root before a revoked one is set aside.
  const change = await signNext(dir, last, nextRoot(last, role, replaced, new Date()), files);
  for (const { file, id } of await roleKeyFiles(dir)) if (ids.includes(id)) await rename(file, file.replace(ROLE_KEY, suffix));
  return { ...change, added };
}

/** Begins a planned change of all keys of a role: see replaceKeys. */
export async function rotateRole(dir: string, name: `${Role}`, rootKeyFiles: readonly string[] = []): Promise<RootChange> {
  const { last } = await rootsIn(dir);
  const role = new Map<string, Role>(ROLES.map((one) => [one, one])).get(name);
  if (role === undefined) throw new Error(`'${name}' is not a role`);
  return replaceKeys(dir, role, last.signed.roles[role]?.keyIDs ?? [], { rootKeys: rootKeyFiles, suffix: FORMER_ROLE_KEY });
}

/** Replaces a key that somebody else may have, given by its ID or the beginning of it. Throws a UserError if the newest root does not list it. */
export async function revokeKey(dir: string, id: string, rootKeyFiles: readonly string[] = []): Promise<RootChange> {
  const { last } = await rootsIn(dir);
  const found = Object.entries(last.signed.roles).flatMap(([role, { keyIDs }]) =>
    keyIDs.filter((one) => id.length >= 8 && one.startsWith(id.toLowerCase())).map((one) => ({ role: role as Role, id: one })),
  );
  const [only] = found;
  if (only === undefined || found.length > 1)
    throw new UserError(found.length > 1 ? `several keys begin with '${id}'` : `root ${last.signed.version} lists no key '${id}'`, {
      where: dir,
      next: 'list the keys: flatcar-ext keys show DIR',
    });
  return replaceKeys(dir, only.role, [only.id], { rootKeys: rootKeyFiles, suffix: REVOKED_ROLE_KEY });
}

/** Adds the signatures of root keys to the root that waits for them. */
export async function signRoot(dir: string, rootKeyFiles: readonly string[] = []): Promise<RootChange> {
  const { last, pending } = await rootsIn(dir);
  if (pending === undefined)
    throw new UserError('no root waits for signatures', { where: dir, next: 'flatcar-ext keys rotate DIR --role ROLE begins a change' });
  return { ...(await signNext(dir, last, pending, rootKeyFiles)), added: [] };
}
