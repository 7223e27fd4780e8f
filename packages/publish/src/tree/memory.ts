import { createHash } from 'node:crypto';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { envOf, homeOf, isSudo, UserError, withLock, writeAtomic, type Environment } from '@flatcar/core/engine';
import { MetadataKind } from '@tufjs/models';
import { metadataPath } from './layout.ts';
import type { Source } from './tree.ts';
import { parseMetadata } from '../metadata/metadata.ts';

/** Metadata that a client has seen, by file name: with it the client notices that a tree went back. */
export interface Memory {
  read(name: string): Promise<Buffer | undefined>;
  write(files: ReadonlyMap<string, Buffer>): Promise<void>;
  /** Forgets a tree that another publisher had in the same place. */
  forget(): Promise<void>;
}

/** Remembers nothing. */
export const noMemory: Memory = { read: async () => undefined, write: async () => undefined, forget: async () => undefined };

/**
 * Folder of what is remembered of trees: `flatcar-ext/trees` in the user's state folder (XDG_STATE_HOME, else ~/.local/state; under sudo,
 * root's own). Throws a UserError if no home folder is known.
 */
export function stateRoot(env: Environment = process.env): string {
  const xdg = envOf('XDG_STATE_HOME', env);
  const home = homeOf(env);
  const user = xdg?.startsWith('/') === true && !isSudo(env) ? xdg : home === undefined ? undefined : join(home, '.local/state');
  if (user === undefined)
    throw new UserError('there is no home folder to remember versions of published trees in', {
      next: 'set XDG_STATE_HOME to a folder that lasts',
    });
  return join(user, 'flatcar-ext/trees');
}

/**
 * What a copy of a tree has, instead of what this user has seen: timestamp and snapshot of the copy, with the remembered roots of the tree.
 * Whoever mirrors a tree is warned on every machine.
 */
export function copiedTree(copy: Pick<Source, 'read'>, roots: Memory): Memory {
  const timestamp = (): Promise<Buffer | undefined> => copy.read(metadataPath(MetadataKind.Timestamp));
  async function snapshot(): Promise<Buffer | undefined> {
    const bytes = await timestamp();
    if (bytes === undefined) return undefined;
    const { version } = parseMetadata(MetadataKind.Timestamp, bytes, 'the copy').signed.snapshotMeta;
    return copy.read(metadataPath(MetadataKind.Snapshot, version));
  }
  return {
    ...roots,
    async read(name) {
      if (name === `${MetadataKind.Timestamp}.json`) return timestamp();
      if (name === `${MetadataKind.Snapshot}.json`) return snapshot();
      return name.endsWith('root.json') ? roots.read(name) : undefined;
    },
  };
}

/** What this user has seen of the tree at a place. */
export function rememberedTree(where: string, env: Environment = process.env): Memory {
  const dir = join(stateRoot(env), createHash('sha256').update(where).digest('hex').slice(0, 32));
  return {
    read: (name) =>
      readFile(join(dir, name)).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return undefined;
        throw error;
      }),
    async write(files) {
      await mkdir(dir, { recursive: true, mode: 0o700 });
      await withLock(join(dir, '.lock'), async () => {
        await writeAtomic(join(dir, 'where'), `${where}\n`);
        for (const [name, bytes] of files) await writeAtomic(join(dir, name), bytes);
      });
    },
    forget: () => rm(dir, { recursive: true, force: true }),
  };
}
