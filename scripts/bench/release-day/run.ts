// npm run bench:publish -- --release-day
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Format, type LoadedExtension } from '@flatcar/core/engine';
import { loadAll } from '@flatcar/workspace/select';
import { releaseDay, type DayContext, type DayResult, type Time } from './day.ts';
import { measurePacking, type Packing } from './packing.ts';
import { dayPayloads, type DayPayload } from './payloads.ts';

/** Which release days to measure. */
export interface DayOptions {
  /** Names of extensions; all by default. */
  readonly names: readonly string[];
  readonly formats: readonly Format[];
  /** Bytes of packed files that are packed again; the rest counts at the same rate. */
  readonly pack: number;
}

/** A release day beside packing the same again. */
export interface Comparison extends DayResult {
  readonly extensions: number;
  /** Names of extensions whose payloads are stand-ins. */
  readonly standInNames: readonly string[];
  /** From the plan to the index. */
  readonly time: Time;
  readonly packed: Packing;
  /** Of packing everything again, at the rate of what was packed; undefined if nothing was packed. */
  readonly packing: Time | undefined;
}

const scale = (of: (what: keyof Time) => number): Time => ({ wall: of('wall'), cpu: of('cpu') });

async function compare(
  loaded: readonly LoadedExtension[],
  payloads: readonly DayPayload[],
  format: Format,
  options: DayOptions,
  context: DayContext,
): Promise<Comparison> {
  const day = await releaseDay(loaded, payloads, format, context);
  const packed = await measurePacking(payloads, options.pack, context);
  const { plan, bind, publish } = day.parts;
  const time = scale((what) => plan[what] + bind[what] + publish[what]);
  const packing = packed.bytes === 0 ? undefined : scale((what) => (packed.time[what] * day.bytes) / packed.bytes);
  const standIns = payloads.filter(({ isStandIn }) => isStandIn);
  return {
    ...day,
    extensions: loaded.length,
    standInNames: [...new Set(standIns.map(({ payload }) => payload.extension))],
    time,
    packed,
    packing,
  };
}

/** Measures a release day of each format. */
export async function compareDays(options: DayOptions, context: DayContext): Promise<Comparison[]> {
  const loaded = await loadAll(options.names);
  const results: Comparison[] = [];
  for (const format of options.formats) {
    const dir = join(context.temp, `payloads-${format}`);
    context.report({ type: 'step', text: `payloads (${format})` });
    const payloads = await dayPayloads(loaded, format, { ...context, dir });
    results.push(await compare(loaded, payloads, format, options, context));
    await rm(dir, { recursive: true, force: true });
  }
  return results;
}

const mebibytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`;

/** The text of a comparison, for people. */
export function comparisonText(one: Comparison): string {
  const { format, images, bytes, extensions, standIns, standInNames, parts, packed, packing, time } = one;
  const line = (what: string, values: readonly string[], more = ''): string =>
    `  ${what.padEnd(42)}${values.map((value) => value.padStart(10)).join('')}  ${more}`.trimEnd();
  const row = (what: string, { wall, cpu }: Time, more = ''): string => line(what, [wall.toFixed(1), cpu.toFixed(1)], more);
  const percent = (what: keyof Time): string => `${((100 * time[what]) / (packing?.[what] ?? NaN)).toFixed(1)} %`;
  return [
    `one more release (${format}): ${images} images of ${extensions} extensions, ${mebibytes(bytes)}`,
    standIns === 0
      ? '  all payloads are real'
      : `  ${standIns} payloads stand in for real ones of about the same size: ${standInNames.join(', ')}`,
    line('seconds', ['wall', 'CPU']),
    row('the day: bind, read back, sign, index', time, 'aim: < 60'),
    row('  plan', parts.plan),
    row('  bind and read back', parts.bind),
    row('  publish: check, sign, index', parts.publish),
    ...(packing === undefined
      ? ['  packing again was not measured']
      : [
          row('packing the same again', packing, `measured on ${packed.payloads} payloads, ${mebibytes(packed.bytes)}`),
          line('the day / packing again', [percent('wall'), percent('cpu')]),
        ]),
    line('steps, side by side: wall seconds of each', []),
    ...one.steps.map(({ step, seconds }) => line(`  ${step}`, [seconds.toFixed(1)])),
  ].join('\n');
}
