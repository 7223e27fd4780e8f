import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf, UserError, type ErrorCode } from '@flatcar/core/engine';
import { MetadataKind, type TargetFile } from '@tufjs/models';
import type { Fetcher } from 'tuf-js';
import { isSuccessor, parseMetadata, ROLES, type TreeMetadata } from '../metadata/metadata.ts';
import { rememberedTree, type Memory } from './memory.ts';
import { parseRoot, type RootFile } from '../metadata/root.ts';
import { sha256Of } from './digest.ts';
import { INDEX, metadataPath, rootPath, targetPath } from './layout.ts';
import type { Source } from './tree.ts';

/** What a client trusts when it reads a tree. */
export interface Trust {
  /** The root of trust that the operator gave. Undefined: the root that was accepted when this tree was first read. */
  readonly root?: RootFile;
  /** Accepts the first root of a tree that was not read before. */
  readonly firstUse?: boolean;
  /** Versions that were seen; by default, those that this user has seen of the tree. */
  readonly memory?: Memory;
  /** Accepts metadata that has expired: for the publisher, who signs it again. */
  readonly expired?: boolean;
}

/** A tree whose metadata was verified. */
export interface TrustedTree {
  readonly metadata: TreeMetadata;
  /** The bytes of the index. */
  readonly index: Buffer;
}

/** The tree has no metadata. */
class NoMetadata extends Error {}

/** Base of the addresses that tuf-js asks for; what follows is a path of the tree. */
const BASE = 'tree:///';
/** The latest root that a client learns from a tree; the file has this name in its memory. */
const LATEST_ROOT = 'root.json';

/** Reads files of a tree for tuf-js, and remembers the roots. */
class SourceFetcher implements Fetcher {
  readonly roots = new Map<string, Buffer>();
  /** The error of a file that could not be read, which tuf-js reports as a text. */
  failure: UserError | undefined;
  readonly #source: Source;

  constructor(source: Source) {
    this.#source = source;
  }

  async downloadBytes(url: string, maxLength: number): Promise<Buffer> {
    const path = url.slice(BASE.length);
    const bytes = await this.#source.read(path, maxLength).catch((error: unknown) => {
      if (error instanceof UserError) this.failure = error;
      throw error;
    });
    if (bytes === undefined) {
      if (path === metadataPath(MetadataKind.Timestamp)) throw new NoMetadata();
      const { DownloadHTTPError } = await import('tuf-js/dist/error.js');
      throw new DownloadHTTPError(`the tree has no ${path}`, 404);
    }
    if (path.endsWith('.root.json')) this.roots.set(path.slice('metadata/'.length), bytes);
    return bytes;
  }

  async downloadFile(): Promise<never> {
    throw new Error('targets are read by their digest');
  }
}

/** The root to begin with, and whether the other remembered files belong to the same publisher. */
async function startingRoot(
  source: Source,
  { root, firstUse = false }: Trust,
  memory: Memory,
): Promise<{ latest: RootFile; isOurs: boolean }> {
  const remembered = await memory.read(LATEST_ROOT);
  if (root === undefined) {
    if (remembered !== undefined) return { latest: parseRoot(remembered, `the remembered root of ${source.where}`), isOurs: true };
    if (!firstUse)
      throw new UserError('cannot verify this tree: no root of trust is given', {
        where: source.where,
        next: "pass the publisher's root.json: --root FILE, or FLATCAR_EXT_ROOT; to accept the tree's own root once: --trust-first-use",
        code: 'no-root',
      });
    const bytes = await source.read(rootPath(1), LIMITS.root);
    if (bytes === undefined) throw new NoMetadata();
    return { latest: parseRoot(bytes, `${source.where}/${rootPath(1)}`), isOurs: true };
  }
  let latest = root;
  const own = await memory.read(`${root.root.signed.version}.root.json`);
  // The memory is of another publisher's tree in the same place.
  if (own !== undefined && !own.equals(root.bytes)) return { latest, isOurs: false };
  for (;;) {
    const name = `${latest.root.signed.version + 1}.root.json`;
    const bytes = await memory.read(name);
    if (bytes === undefined) return { latest, isOurs: true };
    const next = parseRoot(bytes, `the remembered ${name} of ${source.where}`);
    if (!isSuccessor(latest.root, next.root)) return { latest, isOurs: false };
    latest = next;
  }
}

/** Limits of metadata, in bytes: a tree has one target and a few keys. */
const LIMITS = { root: 64 << 10, timestamp: 16 << 10, snapshot: 64 << 10, targets: 64 << 10 };
/** Limit of the top index, in bytes. */
const INDEX_LIMIT = 64 << 20;

/** What an error of tuf-js means. It reports those of snapshot and targets as texts. */
function refusal(source: Source, error: unknown): UserError {
  const why = messageOf(error).replace(/^Unable to load (?:snapshot metadata|targets) error (?:\w+: )?/, '');
  const about = (code: ErrorCode, next: string): { where: string; next: string; code: ErrorCode; cause: unknown } => ({
    where: source.where,
    next,
    code,
    cause: error,
  });
  if (why.endsWith('is expired'))
    return new UserError(
      `the metadata of this tree has expired: ${why}`,
      about(
        'expired-metadata',
        "check this machine's clock; if it is right, the server has an old tree, or the publisher did not sign the timestamp (flatcar-ext publish --timestamp)",
      ),
    );
  if (/less than current version|^Missing file/.test(why))
    return new UserError(
      `this tree went back to an older state: ${why}`,
      about('rolled-back', 'do not use it; ask the publisher, or read the tree from another place'),
    );
  return new UserError(
    `the metadata of this tree is refused: ${why}`,
    about('bad-signature', "check that the root of trust is the publisher's (flatcar-ext keys show); if it is, do not trust this tree"),
  );
}

/** Reads what tuf-js keeps in its folder. */
async function keptFiles(dir: string): Promise<Map<string, Buffer>> {
  const kept = new Map<string, Buffer>();
  for (const role of ROLES) {
    const bytes = await readFile(join(dir, `${role}.json`)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error; // what is not kept is not remembered, and could be turned back
    });
    if (bytes !== undefined) kept.set(`${role}.json`, bytes);
  }
  return kept;
}

/** Runs the client's workflow of the specification (5.) in a folder, and remembers what it accepted even if it fails later. */
async function refresh(
  source: Source,
  trust: Trust,
  memory: Memory,
  dir: string,
): Promise<{ target: TargetFile; kept: ReadonlyMap<string, Buffer> }> {
  const { Updater } = await import('tuf-js');
  const { latest, isOurs } = await startingRoot(source, trust, memory);
  await writeFile(join(dir, LATEST_ROOT), latest.bytes);
  if (isOurs)
    for (const role of ROLES.filter((one) => one !== MetadataKind.Root)) {
      const bytes = await memory.read(`${role}.json`);
      if (bytes !== undefined) await writeFile(join(dir, `${role}.json`), bytes);
    }
  else await memory.forget();
  const fetcher = new SourceFetcher(source);
  const updater = new Updater({
    metadataDir: dir,
    metadataBaseUrl: `${BASE}metadata`,
    fetcher,
    config: {
      rootMaxLength: LIMITS.root,
      timestampMaxLength: LIMITS.timestamp,
      snapshotMaxLength: LIMITS.snapshot,
      targetsMaxLength: LIMITS.targets,
    },
  });
  // tuf-js has no setting for this: the time that its store compares expiries with.
  if (trust.expired === true) Object.assign(Reflect.get(updater, 'trustedSet') as object, { referenceTime: new Date(0) });
  const remember = async (): Promise<void> => {
    const kept = await keptFiles(dir);
    const accepted = parseMetadata(MetadataKind.Root, kept.get(LATEST_ROOT) ?? latest.bytes, dir).signed.version;
    const history = [[`${latest.root.signed.version}.root.json`, latest.bytes] as const, ...fetcher.roots].filter(
      ([name]) => Number.parseInt(name, 10) <= accepted,
    );
    await memory.write(new Map([...kept, ...history]));
  };
  try {
    await updater.refresh();
  } catch (error) {
    // New roots are kept whatever comes later. A tree that was never read is not known by an attempt.
    if ((await memory.read(LATEST_ROOT)) !== undefined) await remember();
    if (error instanceof NoMetadata) throw error;
    throw fetcher.failure ?? refusal(source, error);
  }
  await remember();
  const target = await updater.getTargetInfo(INDEX);
  if (target === undefined) throw refusal(source, new Error(`the targets do not list ${INDEX}`));
  return { target, kept: await keptFiles(dir) };
}

/**
 * Reads the metadata of a tree and verifies it by the client workflow of the specification: the chain of roots from the trusted one, then
 * timestamp, snapshot, targets and the index. Refuses what is not signed by the keys of the roles, has expired, or is older than what this
 * client has seen. Returns undefined for a tree without metadata.
 */
export async function readTrusted(source: Source, trust: Trust): Promise<TrustedTree | undefined> {
  const memory = trust.memory ?? rememberedTree(source.where);
  const dir = await mkdtemp(join(tmpdir(), 'flatcar-ext-tree-'));
  try {
    const { target, kept } = await refresh(source, trust, memory, dir);
    const { length, hashes } = target;
    const sha256 = hashes['sha256'] ?? '';
    const path = targetPath(sha256);
    const index = length > INDEX_LIMIT ? undefined : await source.read(path, length);
    const where = `${source.where}/${path}`;
    const next = 'try again, the tree may be changing; if the error persists, do not trust this tree';
    if (index === undefined) throw new UserError('the tree lacks a file that belongs to it', { where, next });
    if (index.length !== length || sha256Of(index) !== sha256)
      throw new UserError('the file does not match the signed metadata', { where, next, code: 'wrong-digest' });
    const parse = <K extends (typeof ROLES)[number]>(role: K) =>
      parseMetadata(role, kept.get(`${role}.json`) ?? Buffer.alloc(0), source.where);
    const metadata = {
      root: parse(MetadataKind.Root),
      targets: parse(MetadataKind.Targets),
      snapshot: parse(MetadataKind.Snapshot),
      timestamp: parse(MetadataKind.Timestamp),
    };
    return { metadata, index };
  } catch (error) {
    if (error instanceof NoMetadata) return undefined;
    throw error;
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
