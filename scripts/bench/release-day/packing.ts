// What packing takes that a release day saves: payloads of the store are packed again from their files.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { packErofs, packSquashfs, readTree, stageReleaseFile, unpackImage, type Payload } from '@flatcar/core/engine';
import { times } from '../measure.ts';
import type { DayContext, Time } from './day.ts';
import type { DayPayload } from './payloads.ts';

/** What was packed again. */
export interface Packing {
  /** Of the packed files. */
  readonly bytes: number;
  readonly payloads: number;
  readonly time: Time;
}

/** Packs a payload's tree again, with the options of the payload; returns the time of packing alone. */
async function packAgain({ payload, file }: DayPayload, { tools, temp }: DayContext): Promise<Time> {
  const { extension: name, kind, version, arch, format, reload }: Payload = payload;
  const folder = join(temp, 'packing');
  const dir = join(folder, 'tree');
  await mkdir(folder);
  // unpackImage would look for the partition of a disk image, and the payload is the bare file system.
  if (format === 'ddi') await tools.run('fsck.erofs', ['--no-preserve-owner', '--preserve-perms', `--extract=${dir}`, file]);
  else await unpackImage(tools, file, format, arch, dir);
  await stageReleaseFile(dir, { name, kind, version, arch, target: 'portable', reload });
  const tree = await readTree(dir, new Map());
  const pack = format === 'squashfs' ? packSquashfs : packErofs;
  const took = await times(() => pack(tools, tree, { name, kind, profile: 'publish' }, join(folder, 'image')));
  await rm(folder, { recursive: true });
  return took;
}

/**
 * Packs payloads of the store again until their packed files have `enough` bytes together: all of them take too long to wait for. Stand-ins are
 * left out: their content is no program's.
 */
export async function measurePacking(payloads: readonly DayPayload[], enough: number, context: DayContext): Promise<Packing> {
  let [bytes, count] = [0, 0];
  const time = { wall: 0, cpu: 0 };
  for (const one of payloads.filter(({ isStandIn }) => !isStandIn)) {
    if (bytes >= enough) break;
    context.report({ type: 'step', text: `packing ${one.payload.extension} ${one.payload.arch} (${one.payload.format}) again` });
    const took = await packAgain(one, context);
    time.wall += took.wall;
    time.cpu += took.cpu;
    bytes += one.payload.size;
    count += 1;
  }
  return { bytes, payloads: count, time };
}
