import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { KeyObject } from 'node:crypto';
import { messageOf, UserError } from '@flatcar/core/engine';
import { Metadata, MetadataKind, Root, type Key } from '@tufjs/models';
import { expiryOf, isSuccessor, isTrusted, metadataKey, parseMetadata, ROLES, signMetadata, SPEC_VERSION, type Role } from './metadata.ts';

/** A version of the root of trust, with its bytes as they are published. */
export interface RootFile {
  readonly where: string;
  readonly bytes: Buffer;
  readonly root: Metadata<Root>;
}

/** Root keys that must sign a new root, of those that `keys init` makes. */
export const ROOT_KEYS = 3;
export const ROOT_THRESHOLD = 2;

/** Keys of each role, public or private. */
export type RoleKeys = Readonly<Record<Role, readonly KeyObject[]>>;

interface RootRole {
  readonly keyids: string[];
  readonly threshold: number;
}

/** An unsigned root. (The library has no constructor for roles, so it reads them.) */
function composeRoot(version: number, roles: Readonly<Record<string, RootRole>>, keys: readonly Key[], now: Date): Metadata<Root> {
  const used = new Set(Object.values(roles).flatMap(({ keyids }) => keyids));
  return new Metadata(
    Root.fromJSON({
      _type: MetadataKind.Root,
      version,
      spec_version: SPEC_VERSION,
      expires: expiryOf(MetadataKind.Root, now),
      keys: Object.fromEntries(keys.filter(({ keyID }) => used.has(keyID)).map((key) => [key.keyID, key.toJSON()])),
      roles: Object.fromEntries(Object.entries(roles).map(([role, { keyids, threshold }]) => [role, { keyids, threshold }])),
      consistent_snapshot: true,
    }),
  );
}

/** The first root of a set of keys, signed by all of its root keys. */
export function firstRoot(keys: RoleKeys, now: Date): Metadata<Root> {
  const publics = ROLES.map((role) => [role, keys[role].map(metadataKey)] as const);
  const roles = publics.map(([role, own]): [string, RootRole] => [
    role,
    { keyids: own.map(({ keyID }) => keyID), threshold: role === MetadataKind.Root ? ROOT_THRESHOLD : 1 },
  ]);
  const root = composeRoot(
    1,
    Object.fromEntries(roles),
    publics.flatMap(([, own]) => own),
    now,
  );
  signMetadata(root, keys[MetadataKind.Root]);
  return root;
}

/** The root that follows another one, unsigned: keys of a role are replaced, by the IDs of the former keys. */
export function nextRoot({ signed }: Metadata<Root>, role: Role, replaced: ReadonlyMap<string, KeyObject>, now: Date): Metadata<Root> {
  const fresh = new Map([...replaced].map(([id, key]) => [id, metadataKey(key)]));
  const roles = Object.fromEntries(
    ROLES.map((one): [string, RootRole] => {
      const { keyIDs = [], threshold = 1 } = signed.roles[one] ?? {};
      return [one, { keyids: one === role ? keyIDs.map((id) => fresh.get(id)?.keyID ?? id) : keyIDs, threshold }];
    }),
  );
  return composeRoot(signed.version + 1, roles, [...Object.values(signed.keys), ...fresh.values()], now);
}

/** Reads a root and checks that its own keys have signed it. */
export function parseRoot(bytes: Buffer, where: string): RootFile {
  const root = parseMetadata(MetadataKind.Root, bytes, where);
  if (!isTrusted(root, MetadataKind.Root, root)) {
    const { keyIDs = [], threshold } = root.signed.roles[MetadataKind.Root] ?? {};
    const count = keyIDs.filter((id) => root.signatures[id] !== undefined).length;
    throw new UserError(`this root is signed by ${count} of its keys, and ${threshold} must sign it`, {
      where,
      next: 'add signatures of root keys: flatcar-ext keys sign DIR --root-key FILE',
      code: 'bad-signature',
    });
  }
  return { where, bytes, root };
}

const ROOT_FILE = /^(\d+)\.root\.json$/;

/** Reads `root.json` or a folder with `<n>.root.json`: consecutive versions, oldest first, each signed by the thresholds of the one before. */
export async function readRoots(path: string): Promise<[RootFile, ...RootFile[]]> {
  const next = 'name the root.json of the publisher, or a folder with <n>.root.json';
  const fail = (cause: unknown): never => {
    throw new UserError(`the root of trust cannot be read: ${messageOf(cause)}`, { where: path, next, cause });
  };
  const isFolder = (await stat(path).catch(fail)).isDirectory();
  const names = isFolder ? (await readdir(path)).filter((name) => ROOT_FILE.test(name)) : [''];
  const files = await Promise.all(
    names.map(async (name) => parseRoot(await readFile(join(path, name)).catch(fail), name === '' ? path : join(path, name))),
  );
  const [first, ...others] = files.toSorted((a, b) => a.root.signed.version - b.root.signed.version);
  if (first === undefined) throw new UserError('this folder contains no root of trust', { where: path, next });
  let last = first;
  for (const one of others) {
    if (!isSuccessor(last.root, one.root))
      throw new UserError(
        `this root does not follow ${last.where}: it is not the next version, or the root keys before it have not signed it`,
        {
          where: one.where,
          code: 'bad-signature',
        },
      );
    last = one;
  }
  return [first, ...others];
}
