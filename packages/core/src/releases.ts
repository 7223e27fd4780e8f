import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import { parseArch } from './arch.ts';
import { messageOf, UserError } from './errors.ts';
import type { Release, Target } from './types.ts';
import { compareVersions } from './versions.ts';

/** Where Flatcar publishes its releases (flatcar-website: tools/release-scripts/releases_as_json.py). */
export const RELEASES_URL = 'https://www.flatcar.org/releases-json/releases.json';
/** The embedded catalogue, refreshed by `flatcar-ext releases update`. */
export const CATALOGUE = new URL('data/releases.json', import.meta.url);
/** How many releases of each channel are kept. */
const KEPT = 5;

/** What the official list does not say, by major (release notes and package lists of flatcar/scripts). */
interface Capability {
  readonly major: number;
  readonly glibc: string;
  /** True where glibc is only known to be no older. */
  readonly atLeast?: true;
  /** Exact version of the systemd major that the official list names. */
  readonly systemd: string;
  readonly filesystems: readonly string[];
}

const SQUASHFS = ['squashfs'];
const BOTH = ['squashfs', 'erofs'];
const CAPABILITIES: readonly Capability[] = [
  { major: 4081, glibc: '2.38', systemd: '255.8', filesystems: SQUASHFS },
  { major: 4459, glibc: '2.41', systemd: '256.9', filesystems: BOTH },
  { major: 4593, glibc: '2.41', systemd: '257.9', filesystems: BOTH },
  { major: 4628, glibc: '2.41', atLeast: true, systemd: '258.2', filesystems: BOTH },
  { major: 4669, glibc: '2.42', systemd: '258.3', filesystems: BOTH },
  { major: 4694, glibc: '2.42', systemd: '258.3', filesystems: BOTH },
  { major: 4722, glibc: '2.42', systemd: '260.1', filesystems: BOTH },
  { major: 4757, glibc: '2.42', systemd: '260.1', filesystems: BOTH },
  { major: 4790, glibc: '2.43', systemd: '260.1', filesystems: BOTH },
];
/** First major that merges extensions in the initrd and takes disk images. */
const DDI_ERA = 4628;

const Official = v.record(
  v.string(),
  v.object({
    channel: v.string(),
    architectures: v.array(v.string()),
    release_date: v.string(),
    major_software: v.record(v.string(), v.array(v.string())),
  }),
);

const Catalogue = v.array(
  v.strictObject({
    number: v.pipe(v.string(), v.regex(/^\d+\.\d+\.\d+$/)),
    channel: v.picklist(['alpha', 'beta', 'stable', 'lts']),
    date: v.pipe(v.string(), v.isoDate()),
    arches: v.array(v.picklist(['x86-64', 'arm64'])),
    kernel: v.string(),
    systemd: v.string(),
    glibc: v.string(),
    atLeast: v.boolean(),
    era: v.picklist(['final', 'initrd']),
    filesystems: v.array(v.string()),
    format: v.picklist(['squashfs', 'ddi']),
  }),
);

function capabilityOf(major: number): { capability: Capability; known: boolean } {
  const capability = CAPABILITIES.findLast((one) => one.major <= major) ?? CAPABILITIES[0];
  if (capability === undefined) throw new Error('no capabilities'); // the table above is not empty
  return { capability, known: capability.major === major && capability.atLeast !== true };
}

const CHANNELS = ['stable', 'beta', 'alpha', 'lts'] as const;

/**
 * Makes the catalogue of Flatcar's official list: the newest five releases of each channel, LTS only of its newest
 * major, newest first. The list's keys `current*` are copies without a version, and its order is that of letters.
 */
export function catalogueFrom(text: string, where: string): Release[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new UserError('the list of releases is not JSON', { where, cause });
  }
  const parsed = v.safeParse(Official, json);
  if (!parsed.success)
    throw new UserError(
      `the list of releases has another shape: ${parsed.issues
        .map((issue) => `${v.getDotPath(issue)}: ${issue.message}`)
        .slice(0, 5)
        .join('; ')}`,
      { where, next: `the official list is ${RELEASES_URL}` },
    );
  const all = Object.entries(parsed.output)
    .filter(([number]) => /^\d+\.\d+\.\d+$/.test(number))
    .toSorted(([a], [b]) => compareVersions(b, a));
  return CHANNELS.flatMap((channel) => {
    const members = all.filter(([, release]) => release.channel === channel);
    const newestMajor = members[0]?.[0].split('.')[0];
    const kept = members.filter(([number]) => channel !== 'lts' || number.split('.')[0] === newestMajor).slice(0, KEPT);
    return kept.map(([number, release]): Release => {
      const major = Number(number.split('.')[0]);
      const { capability, known } = capabilityOf(major);
      const [kernel] = release.major_software['kernel'] ?? [];
      const [systemd] = release.major_software['systemd'] ?? [];
      if (kernel === undefined || systemd === undefined) throw new UserError(`release ${number} has no kernel or systemd`, { where });
      return {
        number,
        channel,
        date: release.release_date.slice(0, 10),
        arches: release.architectures.map(parseArch),
        kernel,
        // The list has only the major; the table's is more exact while they agree.
        systemd: capability.systemd.split('.')[0] === systemd.split('.')[0] ? capability.systemd : systemd,
        glibc: capability.glibc,
        atLeast: !known,
        era: major >= DDI_ERA ? 'initrd' : 'final',
        filesystems: capability.filesystems,
        format: major >= DDI_ERA ? 'ddi' : 'squashfs',
      };
    });
  });
}

let loaded: readonly Release[] | undefined;

/** The Flatcar releases that images are bound to, newest of each channel first. */
export function catalogue(): readonly Release[] {
  return (loaded ??= v.parse(Catalogue, JSON.parse(readFileSync(CATALOGUE, 'utf8'))));
}

/** The newest release of a channel. */
export function channelHead(channel: Release['channel'], releases: readonly Release[] = catalogue()): Release {
  const head = releases.find((release) => release.channel === channel);
  if (head === undefined)
    throw new UserError(`the catalogue has no release of channel '${channel}'`, { next: 'run flatcar-ext releases update' });
  return head;
}

function selectOne(word: string, releases: readonly Release[]): Target {
  if (word === 'portable') return 'portable';
  const channel = CHANNELS.find((one) => one === word);
  if (channel !== undefined) return channelHead(channel, releases);
  const found = releases.find(({ number }) => number === word);
  if (found !== undefined) return found;
  if (!/^\d+(\.\d+)*$/.test(word)) {
    throw new UserError(`'${word}' is neither a Flatcar release nor a channel`, {
      next: `use a number such as ${channelHead('stable', releases).number}, ${CHANNELS.join(', ')}, or portable`,
    });
  }
  const distance = ({ number }: Release): number[] =>
    number.split('.').map((part, index) => Math.abs(Number(part) - Number(word.split('.')[index] ?? 0)));
  const nearest = releases.toSorted((a, b) => {
    const [x, y] = [distance(a), distance(b)];
    return (x[0] ?? 0) - (y[0] ?? 0) || (x[1] ?? 0) - (y[1] ?? 0) || (x[2] ?? 0) - (y[2] ?? 0);
  })[0];
  throw new UserError(`Flatcar ${word} is not in the catalogue`, {
    next: `the nearest known is ${nearest?.number}; for a newer one run flatcar-ext releases update`,
  });
}

/** Reads `--release`: numbers, channels and `portable`, separated by commas; each target once. */
export function selectTargets(text: string, releases: readonly Release[] = catalogue()): Target[] {
  const words = text
    .split(',')
    .map((word) => word.trim())
    .filter(Boolean);
  if (words.length === 0) throw new UserError('no release was named', { next: 'use for example --release stable' });
  const targets = words.map((word) => selectOne(word, releases));
  const name = (target: Target): string => (target === 'portable' ? target : target.number);
  return targets.filter((target, index) => targets.findIndex((other) => name(other) === name(target)) === index);
}

/** Reads Flatcar's list from a file or URL. */
export async function readReleaseList(from: string): Promise<string> {
  if (!/^https?:/.test(from)) {
    return readFile(from, 'utf8').catch((cause: unknown) => {
      throw new UserError('cannot read the list of releases', { where: from, cause });
    });
  }
  try {
    const response = await fetch(from, { signal: AbortSignal.timeout(60_000) });
    if (!response.ok) throw new UserError(`the server answered ${response.status}`, { where: from });
    return await response.text();
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw new UserError(`the list of releases cannot be fetched: ${messageOf(cause)}`, {
      where: from,
      next: 'name a saved copy with --from FILE',
      cause,
    });
  }
}
