import { stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import {
  formatOf,
  parseRef,
  selectTargets,
  targetName,
  UserError,
  walk,
  type Image,
  type Payload,
  type Report,
  type SignKeys,
  type Store,
  type Target,
} from '@flatcar/core/engine';
import type { Command } from 'commander';
import { addHelp } from '../help.ts';
import { assertCommit, buildContext, noticeNoCommit } from '@flatcar/workspace/build-context';
import { arches, archOption, jsonOption, releaseOption } from '../options.ts';
import { keyringOption, keysOption, trustedKeys, withSignKeys } from '../published.ts';
import { formatBytes, reporter, show, table } from '../output/terminal.ts';

interface Flags {
  readonly tree?: string;
  readonly keyring?: string;
  readonly keys?: string;
  readonly arch?: string;
  readonly release: string;
  readonly out: string;
  readonly key?: string;
  readonly certificate?: string;
  readonly json?: boolean;
}

/** Payload records below the given files and folders. */
async function recordsIn(paths: readonly string[]): Promise<string[]> {
  const { localPath } = await import('@flatcar/publish');
  const found: string[] = [];
  for (const word of paths) {
    const path = localPath(word, 'bind', 'to bind what is published: flatcar-ext bind NAME --tree WHERE');
    const info = await stat(path).catch((cause: unknown) => {
      throw new UserError('there is no such payload record or folder', { where: path, cause });
    });
    if (!info.isDirectory()) found.push(resolve(path));
    else
      found.push(
        ...(await walk(resolve(path))).flatMap(({ full, type }) => (type === 'file' && full.endsWith('.payload.json') ? [full] : [])),
      );
  }
  if (found.length === 0)
    throw new UserError('no payload record (*.payload.json) was found', {
      where: paths.join(', '),
      next: 'build first; the records are in dist/payload/',
    });
  return found.toSorted();
}

/** A payload and its file. */
interface Ready {
  readonly payload: Payload;
  readonly file: string;
}

/** Payloads that stand in folders, each checked against its record. */
async function* built(paths: readonly string[], targets: readonly Target[]): AsyncGenerator<Ready> {
  const { hashFile, readPayload } = await import('@flatcar/core/engine');
  for (const record of await recordsIn(paths)) {
    const payload = await readPayload(record);
    if (!targets.some((target) => formatOf(target) === payload.format)) continue;
    const file = join(dirname(record), payload.file);
    if ((await hashFile(file)) !== payload.sha256)
      throw new UserError('the payload is not the one of its record', { where: file, next: 'build it again' });
    yield { payload, file };
  }
}

/** Payloads of a published tree, out of an image of each: nothing is built. */
async function* restored(names: readonly string[], flags: Flags, targets: readonly Target[], temp: string): AsyncGenerator<Ready> {
  const { ARCHES, openStore } = await import('@flatcar/core/engine');
  const { openTree, readPublished, restorePayload } = await import('@flatcar/publish');
  const tree = openTree(flags.tree ?? '', openStore(), { flag: '--tree' });
  const published = await readPublished(tree, await trustedKeys(flags));
  const formats = new Set(targets.map(formatOf));
  for (const word of names) {
    const { name, version } = parseRef(word);
    const index = await published.extension(name);
    const found = index?.versions.find((one) => (version === undefined ? one.withdrawn === undefined : one.version === version));
    if (index === undefined || found === undefined) throw new UserError(`${word} is not published`, { where: tree.where });
    for (const arch of flags.arch === undefined ? ARCHES : arches(flags.arch)) {
      for (const format of formats) {
        if (found.payloads[`${arch} ${format}`] === undefined) continue;
        yield restorePayload(tree, index, { version: found.version, arch, format }, temp);
      }
    }
  }
}

/** Binds each payload to the targets that take its format; throws when a target has none. */
async function bindAll(
  paths: readonly string[],
  flags: Flags,
  { store, sign, report, signal }: { store: Store; sign: SignKeys | undefined; report: Report; signal: AbortSignal },
): Promise<Image[]> {
  const { bindTargets, openTools } = await import('@flatcar/core/engine');
  const targets = selectTargets(flags.release);
  const tools = openTools(store, report);
  const record = await buildContext();
  await noticeNoCommit(record, report);
  const images: Image[] = [];
  const bound = new Set<string>();
  await store.withTemp(async (temp) => {
    for await (const { payload, file } of flags.tree === undefined ? built(paths, targets) : restored(paths, flags, targets, temp)) {
      signal.throwIfAborted();
      await assertCommit(record, payload.profile);
      const fitting = targets.filter((target) => formatOf(target) === payload.format);
      images.push(
        ...(await bindTargets(payload, file, fitting, {
          out: resolve(flags.out, payload.extension),
          store,
          tools,
          report,
          signal,
          ...(sign === undefined ? {} : { sign }),
          built: record,
        })),
      );
      for (const target of fitting) bound.add(targetName(target));
    }
  });
  const missing = targets.map(targetName).filter((name) => !bound.has(name));
  if (missing.length > 0)
    throw new UserError(`no payload has the format that ${missing.join(', ')} takes`, {
      next: `build one: flatcar-ext build … --release ${missing.join(',')}`,
    });
  return images;
}

/** `bind`: images of payloads that are there, without any extension's code. */
export function addBind(root: Command, signal: AbortSignal): void {
  const command = root
    .command('bind')
    .description('bind payloads to Flatcar releases; nothing is built')
    .argument(
      '<payloads...>',
      'payload records (*.payload.json) or folders with records; with --tree extensions, such as kubernetes@1.37.0',
    )
    .addOption(releaseOption().makeOptionMandatory())
    .requiredOption('--out <dir>', 'write images to <dir>/<extension>/<target>/')
    .option('--tree <where>', 'take the payloads from this published tree: a folder, https://… or s3://bucket/prefix')
    .addOption(archOption().default(undefined, 'all'))
    .addOption(keyringOption())
    .option('--key <file>', 'PEM key that signs the roothash of disk images')
    .option('--certificate <file>', 'PEM certificate of --key')
    .addOption(keysOption())
    .addOption(jsonOption())
    .action(async (paths: string[], flags: Flags) => {
      const { openStore } = await import('@flatcar/core/engine');
      const { report, done } = await reporter();
      const images = await withSignKeys(flags, (sign) => bindAll(paths, flags, { store: openStore(), sign, report, signal })).finally(done);
      show(images, flags.json, (made) =>
        table([
          ['extension', 'version', 'target', 'arch', 'format', 'size', 'file'],
          ...made.map((image) => [
            image.extension,
            image.version,
            image.target,
            image.arch,
            image.format,
            formatBytes(image.size),
            image.file,
          ]),
        ]),
      );
    });
  addHelp(command, {
    examples: [
      'flatcar-ext bind extensions/kubernetes/dist --release stable,lts --out images',
      'flatcar-ext bind kubernetes containerd --tree https://extensions.example.org --keyring publisher.gpg --release stable --out images',
    ],
  });
}
