import { readdir, readFile, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { formatOf, selectTargets, targetName, UserError, type Image, type Payload } from '@flatcar/core';
import type { Command } from 'commander';
import { gitCommit, releaseOption } from '../options.ts';
import { readable, reporter, show, table } from '../terminal.ts';

interface Flags {
  readonly release: string;
  readonly out: string;
  readonly key?: string;
  readonly certificate?: string;
  readonly json?: boolean;
}

/** Payload records below the given files and folders. */
async function recordsIn(paths: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const path of paths) {
    const info = await stat(path).catch((cause: unknown) => {
      throw new UserError('there is no such payload record or folder', { where: path, cause });
    });
    if (!info.isDirectory()) found.push(resolve(path));
    else
      found.push(
        ...(await readdir(path, { recursive: true })).filter((name) => name.endsWith('.payload.json')).map((name) => resolve(path, name)),
      );
  }
  if (found.length === 0)
    throw new UserError('no payload record (*.payload.json) was found', {
      where: paths.join(', '),
      next: 'build first; the records are in dist/payload/',
    });
  return found.toSorted();
}

/** `bind`: images of payloads that are there, without any extension's code. */
export function addBind(root: Command, signal: AbortSignal): void {
  root
    .command('bind')
    .description('bind payloads to Flatcar releases')
    .argument('<payloads...>', 'payload records (*.payload.json) or folders that hold them')
    .addOption(releaseOption().makeOptionMandatory())
    .requiredOption('--out <dir>', 'where images go: <dir>/<extension>/<target>/')
    .option('--key <file>', 'PEM key that signs the roothash of disk images')
    .option('--certificate <file>', 'PEM certificate of --key')
    .option('--json', 'print what was made as JSON')
    .addHelpText('after', '\nExamples:\n  flatcar-ext bind extensions/kubernetes/dist --release 4593.2.4,4593.2.5 --out images')
    .action(async (paths: string[], flags: Flags) => {
      if ((flags.key === undefined) !== (flags.certificate === undefined)) throw new UserError('--key and --certificate go together');
      const { bindTargets, hashFile, openStore, openTools } = await import('@flatcar/core');
      const targets = selectTargets(flags.release);
      const { report, done } = await reporter();
      const store = openStore();
      const tools = openTools(store, report);
      const commit = await gitCommit();
      const images: Image[] = [];
      const bound = new Set<string>();
      for (const record of await recordsIn(paths)) {
        signal.throwIfAborted();
        const payload = JSON.parse(await readFile(record, 'utf8')) as Payload;
        const file = join(dirname(record), payload.file);
        const fitting = targets.filter((target) => formatOf(target) === payload.format);
        if (fitting.length === 0) continue;
        if ((await hashFile(file)) !== payload.sha256)
          throw new UserError('the payload is not the one of its record', { where: file, next: 'build it again' });
        images.push(
          ...(await bindTargets(payload, file, fitting, {
            out: resolve(flags.out, payload.extension),
            store,
            tools,
            report,
            signal,
            ...(flags.key === undefined || flags.certificate === undefined
              ? {}
              : { sign: { key: flags.key, certificate: flags.certificate } }),
            ...(commit === undefined ? {} : { gitCommit: commit }),
          })),
        );
        for (const target of fitting) bound.add(targetName(target));
      }
      done();
      const missing = targets.map(targetName).filter((name) => !bound.has(name));
      if (missing.length > 0)
        throw new UserError(`no payload has the format that ${missing.join(', ')} takes`, {
          next: `build one: flatcar-ext build … --release ${missing.join(',')}`,
        });
      show(images, flags.json, (made) =>
        table([
          ['extension', 'version', 'target', 'arch', 'format', 'size', 'file'],
          ...made.map((image) => [
            image.extension,
            image.version,
            image.target,
            image.arch,
            image.format,
            readable(image.size),
            image.file,
          ]),
        ]),
      );
    });
}
