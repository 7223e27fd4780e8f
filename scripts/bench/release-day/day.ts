// A release day: every published payload is bound to one more Flatcar release and published, as `plan`, `bind --tree` and `publish` do it.
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  bindTargets,
  catalogue,
  measureSteps,
  targetName,
  type Format,
  type LoadedExtension,
  type Release,
  type Report,
  type Store,
  type Target,
  type Tools,
} from '@flatcar/core/engine';
import { loadKeys, localDestination, openTree, plan, publish, readPublished, roothashKeys } from '@flatcar/publish';
import { bindPayloads } from '@flatcar/workspace/bind-payloads';
import { buildContext } from '@flatcar/workspace/build-context';
import { plannedExtensions } from '@flatcar/workspace/plan-release';
import { times } from '../measure.ts';
import type { DayPayload } from './payloads.ts';

/** What the measurements of one run share. */
export interface DayContext {
  readonly store: Store;
  readonly tools: Tools;
  /** Folder for everything that is written. */
  readonly temp: string;
  /** Folder of keys. */
  readonly keys: string;
  readonly report: Report;
}

/** Wall time and CPU time in seconds. */
export type Time = Awaited<ReturnType<typeof times>>;

/** What one release day took. */
export interface DayResult {
  readonly format: Format;
  readonly images: number;
  readonly bytes: number;
  /** Images of payloads that stand in for real ones. */
  readonly standIns: number;
  readonly parts: Readonly<Record<'plan' | 'bind' | 'publish', Time>>;
  /** By step, longest first. Steps that run side by side count each: the sum can exceed the whole. */
  readonly steps: readonly { readonly step: string; readonly seconds: number }[];
}

/** The two newest releases whose images have a format: the one of the day, and the one before. */
export function releasesOf(format: Format): { today: Release; before: Release } {
  const [today, before] = catalogue().filter((one) => one.format === format);
  if (today === undefined || before === undefined) throw new Error(`the catalogue has fewer than two releases for ${format}`);
  return { today, before };
}

/** Publishes each payload for one target, as an earlier day did: the day's images are bound from these. */
async function publishBefore(
  payloads: readonly DayPayload[],
  before: Release,
  { tree, releaseBound }: { tree: string; releaseBound: ReadonlySet<string> },
  context: DayContext,
): Promise<void> {
  const { temp, store, tools, report } = context;
  const out = join(temp, 'before');
  for (const { payload, file } of payloads) {
    const target: Target = payload.format === 'squashfs' && !releaseBound.has(payload.extension) ? 'portable' : before;
    const folder = join(out, payload.extension);
    await bindTargets(payload, file, [target], { out: folder, store, tools, report });
    await mkdir(join(folder, 'payload'), { recursive: true });
    await writeFile(join(folder, 'payload', `${payload.key}.payload.json`), JSON.stringify(payload));
  }
  const keys = { ...(await loadKeys(context.keys, {})), update: [] };
  const origins = [...new Set(payloads.flatMap(({ payload }) => payload.components.map(({ origin }) => origin)))].filter(
    (origin) => origin !== 'files',
  );
  await publish({
    paths: [out],
    destination: localDestination(tree),
    keys,
    baseUrl: 'https://one.example.org',
    origins: origins.length === 0 ? undefined : origins,
    unsigned: true,
  });
  await rm(out, { recursive: true });
}

/** Plans, binds and publishes one more release, and measures it. */
async function measureDay(
  loaded: readonly LoadedExtension[],
  today: Release,
  tree: string,
  context: DayContext,
): Promise<Pick<DayResult, 'parts' | 'images'>> {
  const out = join(context.temp, 'today');
  const keys = await loadKeys(context.keys, {});
  const trust = { root: keys.metadata.roots.at(-1) };
  const sign = today.format === 'ddi' ? await roothashKeys(context.keys) : undefined;
  let wanted: { extension: string; version: string; architecture: 'x86-64' | 'arm64' }[] = [];
  const planned = await times(async () => {
    const published = await readPublished(openTree(tree, context.store), trust);
    const { images, skipped } = await plan(plannedExtensions(loaded), [today], published);
    for (const { extension, architecture, why } of skipped)
      context.report({ type: 'notice', text: `${extension} ${architecture} is not bound: ${why}` });
    wanted = images.filter(({ from }) => from === 'published');
  });
  const bound = await times(async () => {
    // A copy of the repository without git can be measured, too.
    const { gitCommit = 'unknown', ...others } = await buildContext();
    const built = { gitCommit, ...others };
    for (const [arch, images] of Map.groupBy(wanted, ({ architecture }) => architecture)) {
      const names = images.map(({ extension, version }) => `${extension}@${version}`);
      const source = { tree, names, arches: [arch], trust };
      await bindPayloads(source, { targets: [today], out, sign, built }, context.report, new AbortController().signal);
    }
  });
  const published = await times(() =>
    publish({ paths: [out], destination: localDestination(tree), keys, store: context.store, report: context.report }),
  );
  await rm(out, { recursive: true });
  return { parts: { plan: planned, bind: bound, publish: published }, images: wanted.length };
}

/** Measures a release day with the given payloads, all of one format. */
export async function releaseDay(
  loaded: readonly LoadedExtension[],
  payloads: readonly DayPayload[],
  format: Format,
  context: DayContext,
): Promise<DayResult> {
  const { today, before } = releasesOf(format);
  const tree = join(context.temp, `tree-${format}`);
  context.report({ type: 'step', text: `publishing ${payloads.length} payloads as they are before the day` });
  const releaseBound = new Set(loaded.flatMap(({ extension }) => (extension.releaseBound ? [extension.name] : [])));
  await publishBefore(payloads, before, { tree, releaseBound }, context);
  context.report({ type: 'step', text: `the day of ${targetName(today)} (${format})` });
  const steps = new Map<string, number>();
  const took = await measureSteps(
    ({ step, milliseconds }) => steps.set(step, (steps.get(step) ?? 0) + milliseconds / 1000),
    () => measureDay(loaded, today, tree, context),
  );
  await rm(tree, { recursive: true });
  return {
    format,
    ...took,
    bytes: payloads.reduce((sum, { payload }) => sum + payload.size, 0),
    standIns: payloads.filter(({ isStandIn }) => isStandIn).length,
    steps: [...steps].map(([step, time]) => ({ step, seconds: time })).toSorted((a, b) => b.seconds - a.seconds),
  };
}
