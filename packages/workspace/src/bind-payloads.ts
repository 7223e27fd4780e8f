import { rm, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import {
  bindTargets,
  formatOf,
  hashFile,
  mapParallel,
  openStore,
  openTools,
  parseRef,
  readPayload,
  targetName,
  UserError,
  walk,
  type Arch,
  type BuildContext,
  type Image,
  type Payload,
  type Report,
  type SignKeys,
  type Target,
} from '@flatcar/core/engine';
import { localPath, openTree, readPublished, restorePayload, type Trust } from '@flatcar/publish';
import { assertCommit, buildContext, noticeNoCommit } from './build-context.ts';

/** Payload records (*.payload.json), or folders that contain them. */
export interface LocalPayloads {
  readonly paths: readonly string[];
}

/** Versions of a published tree: `name` (the newest that is not withdrawn) or `name@version`. */
export interface PublishedPayloads {
  readonly tree: string;
  readonly names: readonly string[];
  readonly arches: readonly Arch[];
  readonly trust: Trust;
}

/** Where images go, for which targets, and who signs them. */
export interface BindSettings {
  readonly targets: readonly Target[];
  /** Images go to `<out>/<extension>/<target>/`. */
  readonly out: string;
  readonly sign?: SignKeys;
  /** What the build records report; by default, what is known of this checkout. */
  readonly built?: BuildContext;
}

/** A payload and its file. */
interface PayloadFile {
  readonly payload: Payload;
  readonly file: string;
}

/** The payload records in files and folders, sorted. */
async function findRecords(paths: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const word of paths) {
    const path = resolve(localPath(word, 'bind', 'to bind what is published: flatcar-ext bind NAME --tree WHERE'));
    const info = await stat(path).catch((cause: unknown) => {
      throw new UserError('there is no such payload record or folder', { where: path, cause });
    });
    const files = info.isDirectory() ? (await walk(path)).filter(({ type }) => type === 'file').map(({ full }) => full) : undefined;
    found.push(...(files?.filter((file) => file.endsWith('.payload.json')) ?? [path]));
  }
  if (found.length > 0) return found.toSorted();
  throw new UserError('no payload record (*.payload.json) was found', {
    where: paths.join(', '),
    next: 'build first; the records are in dist/payload/',
  });
}

/** Reads one payload and its file; undefined for one in a format that no target has. */
type Opener = () => Promise<PayloadFile | undefined>;

/** Local payloads in the formats of the targets, each checked against its record. */
async function localPayloads({ paths }: LocalPayloads, targets: readonly Target[]): Promise<Opener[]> {
  return (await findRecords(paths)).map((record) => async () => {
    const payload = await readPayload(record);
    if (!targets.some((target) => formatOf(target) === payload.format)) return undefined;
    const file = join(dirname(record), payload.file);
    if ((await hashFile(file)) !== payload.sha256)
      throw new UserError('the payload does not match its record', { where: file, next: 'build it again' });
    return { payload, file };
  });
}

/** Payloads of a published tree in the formats of the targets, each restored from a published image. */
async function publishedPayloads(
  { tree: where, names, arches, trust }: PublishedPayloads,
  targets: readonly Target[],
  temp: string,
): Promise<Opener[]> {
  const tree = openTree(where, openStore(), { flag: '--tree' });
  const published = await readPublished(tree, trust);
  const formats = new Set(targets.map(formatOf));
  // Each once, however it is named: two would write the same file.
  const openers = new Map<string, Opener>();
  for (const word of names) {
    const { name, version } = parseRef(word);
    const index = await published.extension(name);
    const found = index?.versions.find((one) => (version === undefined ? one.withdrawn === undefined : one.version === version));
    if (index === undefined || found === undefined) throw new UserError(`${word} is not published`, { where: tree.where });
    for (const arch of arches)
      for (const format of formats)
        if (found.payloads[`${arch} ${format}`] !== undefined)
          openers.set(`${name} ${found.version} ${arch} ${format}`, () =>
            restorePayload(tree, index, { version: found.version, arch, format }, temp),
          );
  }
  return [...openers.values()];
}

/** Binds each payload to the targets of its format, as many at once as there are cores. Throws a UserError if a target has no payload. */
export async function bindPayloads(
  source: LocalPayloads | PublishedPayloads,
  { targets, out, sign, built }: BindSettings,
  report: Report,
  signal: AbortSignal,
): Promise<Image[]> {
  const store = openStore();
  const tools = openTools(store, report);
  const context = built ?? (await buildContext());
  await noticeNoCommit(context, report);
  const images = await store.withTemp(async (temp) => {
    const openers = 'tree' in source ? await publishedPayloads(source, targets, temp) : await localPayloads(source, targets);
    const bind = async (open: Opener): Promise<Image[]> => {
      signal.throwIfAborted();
      const found = await open();
      if (found === undefined) return [];
      const { payload, file } = found;
      await assertCommit(context, payload.profile);
      const own = targets.filter((target) => formatOf(target) === payload.format);
      const options = { out: resolve(out, payload.extension), store, tools, report, signal, sign, built: context };
      const bound = await bindTargets(payload, file, own, options);
      if (dirname(file) === temp) await rm(file); // the disk need not hold all of them at once
      return bound;
    };
    return (await mapParallel(openers, bind, availableParallelism())).flat();
  });
  const bound = new Set(images.map(({ target }) => target));
  const missing = targets.map(targetName).filter((name) => !bound.has(name));
  if (missing.length > 0)
    throw new UserError(`no payload has the format of ${missing.join(', ')}`, {
      next: `build one: flatcar-ext build … --release ${missing.join(',')}`,
    });
  return images;
}
