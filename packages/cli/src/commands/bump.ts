import { copyFile, mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  channelHead,
  findExtensions,
  hostArch,
  imageVersion,
  loadExtension,
  parseRef,
  UserError,
  UserErrors,
  type Report,
  UsageError,
} from '@flatcar/core/engine';
import type { Bump, BumpResult, UpstreamContext } from '@flatcar/upstream';
import type { Command } from 'commander';
import { toldOnce, type Failure } from '../output/group-failures.ts';
import type { Difference } from '@flatcar/workspace/diff';
import { differenceText } from '../output/difference-text.ts';
import { REPOSITORY, unknownExtension } from '@flatcar/workspace/select';
import { mirrorOption } from '../options.ts';
import { nextRevision } from '@flatcar/workspace/pin-extension';
import { writeReadme, writeRootReadme } from '@flatcar/workspace/readme';
import { reporter, show, table } from '../output/terminal.ts';
import { upstreamContext } from '@flatcar/workspace/open-upstream';

interface Flags {
  readonly all?: boolean;
  readonly dryRun?: boolean;
  readonly diff: boolean;
  readonly keepOld?: boolean;
  readonly mirror?: string;
  readonly json?: boolean;
}

/** A bump, done or (with --dry-run) only found, and what it changes inside the image. */
type Done = (Bump | BumpResult) & {
  readonly difference?: Difference;
  /** Why there is none. */
  readonly noDifference?: string;
};

/** The portable image of a version for this machine's architecture, kept in a folder. */
async function imageOf(dir: string, version: string, to: string, context: UpstreamContext, report: Report): Promise<string> {
  const { buildExtension, sidecarPaths } = await import('@flatcar/core/engine');
  return context.store.withTemp(async (temp) => {
    const loaded = await loadExtension(dir);
    const { images } = await buildExtension(loaded, {
      version,
      arch: hostArch(),
      // What runs on a release's own libraries has no portable image.
      targets: [loaded.extension.bound ? channelHead('stable') : 'portable'],
      profile: 'fast',
      origin: 'auto',
      out: temp,
      store: context.store,
      tools: context.tools,
      report,
      ...(context.mirror === undefined ? {} : { mirror: context.mirror }),
      ...(context.signal === undefined ? {} : { signal: context.signal }),
    });
    const [image] = images;
    if (image === undefined) throw new Error('the build made no image');
    await mkdir(to, { recursive: true });
    const kept = join(to, basename(image.file));
    await copyFile(image.file, kept);
    await copyFile(sidecarPaths(image.file).manifest, sidecarPaths(kept).manifest);
    return kept;
  });
}

/** What is to be bumped in an extension, or to the version that its name is given with. */
async function find(
  word: string,
  dirs: readonly string[],
  context: UpstreamContext,
): Promise<{ dir: string; bumps: readonly Bump[]; keep: readonly string[] }> {
  const { bumpTo, findBumps } = await import('@flatcar/upstream');
  const { name, version } = parseRef(word);
  const dir = dirs.find((one) => basename(one) === name);
  if (dir === undefined) throw unknownExtension(name, dirs);
  const loaded = await loadExtension(dir);
  return { dir, ...(version === undefined ? await findBumps(loaded, context) : await bumpTo(loaded, version, context)) };
}

/** Applies one bump, with the image before and after it side by side. */
async function bumpOne(
  dir: string,
  bump: Bump,
  keep: readonly string[],
  flags: Flags,
  context: UpstreamContext,
  report: Report,
): Promise<Done> {
  const { applyBump } = await import('@flatcar/upstream');
  return context.store.withTemp(async (temp): Promise<Done> => {
    const { from } = bump;
    let before: string | undefined;
    let noDifference = flags.diff ? (from === undefined ? 'nothing of this branch was pinned before' : undefined) : 'not asked for';
    if (noDifference === undefined && from !== undefined) {
      // An image that cannot be made any more is no reason to stay on it.
      before = await imageOf(dir, from, join(temp, 'before'), context, report).catch((error: unknown) => {
        if (!(error instanceof UserError)) throw error;
        noDifference = `${from} could not be built: ${error.message}`;
        return undefined;
      });
    }
    const revision = bump.from === bump.version ? await nextRevision(dir, bump.version) : undefined;
    const bumped = await applyBump(dir, bump, { keep, keepOld: flags.keepOld === true, revision }, context);
    const readmes = [
      ...((await writeReadme(dir)) ? [join(dir, 'README.md')] : []),
      ...((await writeRootReadme(REPOSITORY)) ? [join(REPOSITORY, 'README.md')] : []),
    ];
    const result = { ...bumped, written: [...bumped.written, ...readmes] };
    if (before === undefined) return { ...result, noDifference };
    try {
      const { differenceOf } = await import('@flatcar/workspace/diff');
      return { ...result, difference: await differenceOf(before, await imageOf(dir, bump.version, join(temp, 'after'), context, report)) };
    } catch (error) {
      if (!(error instanceof UserError) || context.signal?.aborted === true) throw error;
      return { ...result, noDifference: `${bump.version} could not be built: ${error.message}` };
    }
  });
}

/** What a person does with bumps that were made. */
function nextSteps(done: readonly Done[]): string[] {
  const names = [...new Set(done.flatMap((one) => ('pinned' in one ? [one.extension] : [])))];
  if (names.length === 0) return [];
  const folders = names.map((name) => `extensions/${name}`);
  return [
    [
      'Next:',
      `  flatcar-ext build ${names.join(' ')} --arch x86-64,arm64`,
      `  npx vitest run --project merge ${folders.join(' ')}      merges ${names.length === 1 ? 'it' : 'them'} (needs root)`,
      `  git add ${folders.join(' ')} README.md && git commit`,
    ].join('\n'),
  ];
}

/** What `bump` prints: for each bump its pins, files and what changes in the image, and at the end what comes next. */
export function bumpText(done: readonly Done[], isAll: boolean): string {
  if (done.length === 0) return isAll ? 'everything is up to date' : 'of those that could be asked nothing is outdated';
  const shown = done.map((one) => {
    if (!('pinned' in one)) {
      const coupled = Object.entries(one.coupled).map((pair) => pair.join(' '));
      const packages = (one.packages ?? []).map(({ name, to }) => `${name} ${to}`);
      const to = [one.from === one.version ? 'a revision' : one.version, ...coupled, ...packages];
      return `${one.extension} ${one.from ?? '(new branch)'} → ${to.join(', ')}`;
    }
    const { pinned, changes, dropped, written, removed, difference, noDifference } = one;
    const rows = pinned.lines.map(({ component, change, locator, proof }) => [component, change, locator, proof]);
    return [
      `${one.extension} ${one.from ?? '(new branch)'} → ${imageVersion(one.version, pinned.revision)}`,
      ...changes.map((change) => `  ${change}`),
      table([['component', 'pin', 'what', 'checked by'], ...rows]),
      ...(dropped.length === 0 ? [] : [`not kept any more: ${dropped.join(', ')}`]),
      ...written.map((file) => `wrote ${file.replace(`${REPOSITORY}/`, '')}`),
      ...removed.map((folder) => `deleted ${folder.replace(`${REPOSITORY}/`, '')}`),
      '',
      difference === undefined ? `what changes in the image: not shown (${noDifference ?? ''})` : differenceText(difference),
    ].join('\n');
  });
  return [...shown, ...nextSteps(done)].join('\n\n');
}

/** `bump`: newer versions, pinned. */
export function addBump(root: Command, signal: AbortSignal): void {
  root
    .command('bump')
    .description('pin newer versions for both architectures, checked by all that upstream offers, with what is coupled to them')
    .argument('[extensions...]', 'NAME (the newest in each kept branch), or NAME@VERSION')
    .option('--all', 'all extensions that are outdated')
    .option('--dry-run', 'say what would be bumped')
    .option('--no-diff', 'do not build images to show what changes inside')
    .option('--keep-old', 'leave versions in pins.json that are not kept any more')
    .addOption(mirrorOption())
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
What a version shares with one that is pinned is not asked for again. Writes pins.json, CHANGELOG.md and README.md of the extension.
An extension that fails does not hold back the others; nothing of it is written.

Examples:
  flatcar-ext bump kubernetes
  flatcar-ext bump kubernetes@1.36.5
  flatcar-ext bump --all --dry-run`,
    )
    .action(async (names: string[], flags: Flags) => {
      if (names.length > 0 === (flags.all === true))
        throw new UsageError('no extension was named', {
          next: 'name some, or specify --all; flatcar-ext outdated lists what is outdated',
        });
      const dirs = await findExtensions(REPOSITORY);
      const wanted = flags.all === true ? dirs.map((dir) => basename(dir)) : names;
      const { report, done } = await reporter();
      const context = await upstreamContext(report, signal, flags.mirror);
      const made: Done[] = [];
      const failures: Failure[] = [];
      const failed = (word: string, error: unknown): void => {
        if (signal.aborted || !(error instanceof UserError) || wanted.length === 1) throw error;
        failures.push({
          error: error.message,
          where: error.where === undefined ? word : `${word}: ${error.where.replace(`${REPOSITORY}/`, '')}`,
          next: error.next,
        });
      };
      // All are asked for before anything is pinned: side by side, and since a lock that extensions share is outdated for each of them.
      const found = await Promise.allSettled(wanted.map((word) => find(word, dirs, context)));
      for (const [index, word] of wanted.entries()) {
        const answer = found[index];
        if (answer?.status !== 'fulfilled') {
          failed(word, answer?.reason);
          continue;
        }
        const { dir, bumps, keep } = answer.value;
        try {
          for (const bump of bumps) made.push(flags.dryRun === true ? bump : await bumpOne(dir, bump, [...keep, ...bumps.map((one) => one.from ?? '').filter((from) => from !== bump.from)], flags, context, report)); // prettier-ignore
        } catch (error) {
          failed(word, error);
        }
      }
      done();
      show(made, flags.json, (all) => bumpText(all, failures.length === 0));
      if (failures.length > 0)
        throw new UserErrors(`${failures.length} of ${wanted.length} extensions could not be bumped`, toldOnce(failures));
    });
}
