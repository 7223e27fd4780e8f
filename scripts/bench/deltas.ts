// npm run bench:publish -- --only deltas: what a node fetches instead of whole images, for the payloads that the store has.
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  ARCHES,
  bindTargets,
  compareVersions,
  type Arch,
  type Format,
  type Image,
  type LoadedExtension,
  type PackedPayload,
  type Release,
} from '@flatcar/core/engine';
import { roothashKeys } from '@flatcar/publish';
import { compareImages } from '@flatcar/publish/deltas/block-list';
import { canPatch, makePatch } from '@flatcar/publish/deltas/zstd-patch';
import { releasesOf, type DayContext } from './release-day/day.ts';
import { findPayload } from './release-day/payloads.ts';

/** What a node fetches for one update. */
export interface DeltaSize {
  readonly extension: string;
  readonly arch: Arch;
  readonly format: Format;
  /** `release` for an update of the system, else the two versions. */
  readonly update: string;
  /** Of the whole image, and of the delta, in bytes; a patch that is given up counts as the whole image. */
  readonly whole: number;
  readonly delta: number;
  /** delta / whole */
  readonly ratio: number;
}

type About = Pick<DeltaSize, 'extension' | 'arch' | 'format' | 'update'>;

const sizeOf = (about: About, whole: number, delta: number): DeltaSize => ({ ...about, whole, delta, ratio: delta / whole });

async function bound({ payload, file }: PackedPayload, releases: readonly Release[], out: string, context: DayContext): Promise<Image[]> {
  const { store, tools, keys } = context;
  const sign = payload.format === 'ddi' ? await roothashKeys(keys) : undefined;
  return bindTargets(payload, file, releases, { out, store, tools, sign, report: () => undefined });
}

/** The payloads of an extension that the store has, newest first. */
async function payloadsOf(loaded: LoadedExtension, arch: Arch, format: Format, { store }: DayContext): Promise<PackedPayload[]> {
  const versions = Object.keys(loaded.pins).toSorted((a, b) => compareVersions(b, a));
  const found = await Promise.all(versions.map((version) => findPayload(loaded, { version, arch, format }, store)));
  return found.filter((one) => one !== undefined);
}

/** Deltas of one extension for one architecture in one format: to the next release, and between the versions that follow each other. */
async function measureOne(loaded: LoadedExtension, arch: Arch, format: Format, context: DayContext): Promise<DeltaSize[]> {
  const payloads = await payloadsOf(loaded, arch, format, context);
  const about = { extension: loaded.extension.name, arch, format };
  const out = join(context.temp, 'deltas');
  const sizes: DeltaSize[] = [];
  const { today, before } = releasesOf(format);
  const images: Image[] = [];
  for (const [index, payload] of payloads.entries()) {
    // Of the newest version for both releases, of others for the one of today.
    const [image, former] = await bound(payload, index === 0 ? [today, before] : [today], join(out, String(index)), context);
    if (image === undefined) continue;
    images.push(image);
    const list = former === undefined ? undefined : await compareImages(former.file, image.file);
    if (list !== undefined) sizes.push(sizeOf({ ...about, update: 'release' }, image.size, list.length));
  }
  for (const [index, image] of images.entries()) {
    const former = images[index + 1];
    if (former === undefined || !canPatch(former.size, image.size)) continue;
    const patch = await makePatch(context, former, image, image.size);
    const update = `${former.version} to ${image.version}`;
    sizes.push(sizeOf({ ...about, update }, image.size, patch === undefined ? image.size : (await stat(patch)).size));
  }
  await rm(out, { recursive: true, force: true });
  return sizes;
}

/** Measures the deltas of extensions. Compiles nothing: extensions without a payload in the store are left out. */
export async function measureDeltas(
  loaded: readonly LoadedExtension[],
  formats: readonly Format[],
  context: DayContext,
): Promise<DeltaSize[]> {
  const sizes: DeltaSize[] = [];
  for (const one of loaded)
    for (const arch of ARCHES)
      for (const format of formats) {
        context.report({ type: 'step', text: `deltas of ${one.extension.name} (${arch}, ${format})` });
        sizes.push(...(await measureOne(one, arch, format, context)));
      }
  return sizes;
}

const percent = (ratio: number): string => `${(100 * ratio).toPrecision(2)} %`;

/** The text of measured deltas, for people: each, then the largest ratio of each format. */
export function deltasText(sizes: readonly DeltaSize[]): string {
  const row = (...cells: readonly string[]): string =>
    cells.map((cell, index) => (index < 4 ? cell.padEnd([22, 8, 10, 22][index] ?? 0) : cell.padStart(12))).join('');
  const lines = sizes.map(({ extension, arch, format, update, whole, delta, ratio }) =>
    row(extension, arch, format, update, String(whole), String(delta), percent(ratio)),
  );
  const largest = [...Map.groupBy(sizes, ({ format, update }) => `${format}, ${update === 'release' ? 'an OS update' : 'a version'}`)].map(
    ([what, of]) => `largest ratio of ${what}: ${percent(Math.max(...of.map(({ ratio }) => ratio)))} of ${of.length}`,
  );
  return [row('extension', 'arch', 'format', 'update', 'whole', 'delta', 'ratio'), ...lines, ...largest].join('\n');
}
