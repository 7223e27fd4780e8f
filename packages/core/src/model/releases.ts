import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import * as v from 'valibot';
import { ARCHES, archWords } from './arch.ts';
import { UserError, UserErrors, UsageError } from '../util/errors.ts';
import { parseJson } from '../util/json.ts';
import type { Format, Release, Target } from './target.ts';
import { compareVersions } from './versions.ts';

/** Where Flatcar publishes its releases (flatcar-website: tools/release-scripts/releases_as_json.py). */
export const RELEASES_URL = 'https://www.flatcar.org/releases-json/releases.json';
/** The embedded catalogue, refreshed by `flatcar-ext releases update`. */
export const CATALOGUE = new URL('data/releases.json', import.meta.url);

/** Channels in the order in which they are shown; `edge` is history. */
const CHANNELS = ['stable', 'beta', 'alpha', 'lts'] as const;
/** How many releases of each channel (of LTS: of each supported major) are kept. */
const KEPT = 5;
/** An LTS major counts as supported while its last release is no more than this older than the newest of all, in days. */
const LTS_ALIVE = 180;
/** First major that merges extensions in the initrd and takes disk images (flatcar/scripts PR 3162). */
const DDI_ERA = 4628;

const ReleaseNumber = v.pipe(v.string(), v.regex(/^\d+\.\d+\.\d+$/));

/** Flatcar's own list: only what is used of it. */
const Official = v.record(
  v.string(),
  v.object({
    channel: v.string(),
    architectures: v.array(v.string()),
    release_date: v.pipe(v.string(), v.regex(/^\d{4}-\d{2}-\d{2}/)),
    major_software: v.record(v.string(), v.array(v.string())),
  }),
);

const Catalogue = v.array(
  v.strictObject({
    number: ReleaseNumber,
    channel: v.picklist(CHANNELS),
    date: v.pipe(v.string(), v.isoDate()),
    arches: v.array(v.picklist(ARCHES)),
    kernel: v.string(),
    systemd: v.string(),
    glibc: v.string(),
    containerd: v.optional(v.string()),
    atLeast: v.boolean(),
    era: v.picklist(['final', 'initrd']),
    filesystems: v.array(v.string()),
    format: v.picklist(['squashfs', 'ddi']),
  }),
);

/** What the official list does not say, by the first major that has it. */
const byMajor = <T extends v.GenericSchema>(value: T) => v.record(v.pipe(v.string(), v.digits()), value);
const Capabilities = v.object({
  /** The newest major that was looked at: later ones have at least what it has. */
  newest: v.number(),
  glibc: byMajor(v.string()),
  systemd: byMajor(v.string()),
  filesystems: byMajor(v.array(v.string())),
});

/** Reads one of our own data files. */
function readData<T extends v.GenericSchema>(schema: T, url: URL): v.InferOutput<T> {
  const where = fileURLToPath(url);
  return parseJson(schema, readFileSync(url, 'utf8'), { what: basename(where), where, next: 'restore it from git' });
}

type Capability = Pick<Release, 'glibc' | 'systemd' | 'filesystems' | 'atLeast'>;

/** What a major has; undefined for majors older than all that are known. */
function capabilityOf(major: number, table: v.InferOutput<typeof Capabilities>): Capability | undefined {
  const last = <T>(since: Record<string, T>): T | undefined =>
    Object.entries(since)
      .toSorted(([a], [b]) => Number(b) - Number(a))
      .find(([first]) => Number(first) <= major)?.[1];
  const [glibc, systemd, filesystems] = [last(table.glibc), last(table.systemd), last(table.filesystems)];
  if (glibc === undefined || systemd === undefined || filesystems === undefined) return undefined;
  return { glibc, systemd, filesystems, atLeast: major > table.newest };
}

const majorOf = (number: string): number => Number(number.split('.')[0]);
const byNumber = (a: Release, b: Release): number => compareVersions(b.number, a.number);

/** One entry of the official list; undefined for what is none of ours: copies, `edge`, and majors out of memory. */
function releaseOf(
  number: string,
  entry: v.InferOutput<typeof Official>[string],
  table: v.InferOutput<typeof Capabilities>,
): Release | undefined {
  const channel = CHANNELS.find((one) => one === entry.channel);
  const major = majorOf(number);
  const capability = capabilityOf(major, table);
  const [kernel] = entry.major_software['kernel'] ?? [];
  const [systemd] = entry.major_software['systemd'] ?? [];
  if (!v.is(ReleaseNumber, number) || channel === undefined || capability === undefined || kernel === undefined || systemd === undefined)
    return undefined;
  return {
    number,
    channel,
    date: entry.release_date.slice(0, 10),
    arches: ARCHES.filter((arch) => entry.architectures.includes(archWords(arch).go)),
    kernel,
    // The list has only the first number; the table is more exact while they agree.
    systemd: majorOf(capability.systemd) === majorOf(systemd) ? capability.systemd : systemd,
    glibc: capability.glibc,
    containerd: entry.major_software['containerd']?.[0],
    atLeast: capability.atLeast,
    era: major >= DDI_ERA ? 'initrd' : 'final',
    filesystems: capability.filesystems,
    format: major >= DDI_ERA ? 'ddi' : 'squashfs',
  };
}

/**
 * Makes the catalogue of Flatcar's official list: the five newest releases of stable, beta and alpha, and of every LTS
 * major that had a release in the last half year; newest first within a channel. The list's keys `current*` are copies
 * without a number, and its order is that of letters. `where` is named in errors.
 */
export function catalogueFrom(text: string, where: string): Release[] {
  const official = parseJson(Official, text, { what: 'list of releases', where, next: `the official list is ${RELEASES_URL}` });
  const table = readData(Capabilities, new URL('data/flatcar-capabilities.json', import.meta.url));
  const all = Object.entries(official)
    .flatMap(([number, entry]) => releaseOf(number, entry, table) ?? [])
    .toSorted(byNumber);
  const newest = Math.max(...all.map(({ date }) => Date.parse(date)));
  const isAlive = ([head]: readonly Release[]): boolean =>
    head !== undefined && (head.channel !== 'lts' || newest - Date.parse(head.date) <= LTS_ALIVE * 86_400_000);
  return CHANNELS.flatMap((channel) => {
    const members = all.filter((release) => release.channel === channel);
    if (members.length === 0)
      throw new UserError(`the list has no release of channel '${channel}'`, { where, next: `the official list is ${RELEASES_URL}` });
    const lines = Map.groupBy(members, ({ number }) => (channel === 'lts' ? majorOf(number) : 0));
    return [...lines.values()].filter(isAlive).flatMap((line) => line.slice(0, KEPT));
  });
}

/** What an update of the catalogue changes. */
export function catalogueChanges(
  before: readonly Release[],
  after: readonly Release[],
): { added: string[]; dropped: string[]; changed: string[] } {
  const [was, is] = [before, after].map((releases) => new Map(releases.map((release) => [release.number, JSON.stringify(release)])));
  const numbers = (releases: readonly Release[], test: (number: string) => boolean): string[] =>
    releases.map(({ number }) => number).filter(test);
  return {
    added: numbers(after, (number) => was?.has(number) === false),
    dropped: numbers(before, (number) => is?.has(number) === false),
    changed: numbers(after, (number) => was?.has(number) === true && was.get(number) !== is?.get(number)),
  };
}

let loaded: readonly Release[] | undefined;

/** Reads a file that `flatcar-ext releases update` wrote. */
export function readCatalogue(file: URL): readonly Release[] {
  return readData(Catalogue, file);
}

/** The Flatcar releases that images are bound to, newest of each channel first: the embedded list, or the file that FLATCAR_EXT_RELEASES names. */
export function catalogue(): readonly Release[] {
  const own = process.env['FLATCAR_EXT_RELEASES'] || undefined;
  return (loaded ??= readCatalogue(own === undefined ? CATALOGUE : pathToFileURL(own)));
}

/** The newest release of a channel. */
export function channelHead(channel: Release['channel'], releases: readonly Release[] = catalogue()): Release {
  const head = releases.filter((release) => release.channel === channel).toSorted(byNumber)[0];
  if (head === undefined)
    throw new UserError(`the catalogue has no release of channel '${channel}'`, { next: 'run flatcar-ext releases update' });
  return head;
}

/** The known release whose number is nearest to one that is not known; where parts are missing, the newest with those that are there. */
export function nearest(number: string, releases: readonly Release[] = catalogue()): Release | undefined {
  const wanted = number.split('.').map(Number);
  const distances = (release: Release): number[] =>
    release.number.split('.').map((part, index) => Math.abs(Number(part) - (wanted[index] ?? Number(part))));
  return releases.toSorted(byNumber).toSorted((a, b) => {
    const [x, y] = [distances(a), distances(b)];
    return (x[0] ?? 0) - (y[0] ?? 0) || (x[1] ?? 0) - (y[1] ?? 0) || (x[2] ?? 0) - (y[2] ?? 0);
  })[0];
}

/**
 * The target that an image names. Its release may have left the catalogue, or not be in it yet: then it is taken for what the nearest known one
 * is, in the format that the image has.
 */
export function targetOfImage(name: string, format: Format, releases: readonly Release[] = catalogue()): Target {
  if (name === 'portable') return name;
  const known = releases.find(({ number }) => number === name);
  const like = known ?? nearest(name, releases);
  if (like === undefined) throw new UserError(`nothing is known of Flatcar ${name}: the catalogue of releases is empty`);
  return known ?? { ...like, number: name, format, arches: ARCHES };
}

/** The target that a word names, or what is wrong with the word. */
function selectOne(word: string, releases: readonly Release[]): Target | UserError {
  if (word === 'portable') return 'portable';
  const channel = CHANNELS.find((one) => one === word);
  if (channel !== undefined) return channelHead(channel, releases);
  const found = releases.find(({ number }) => number === word);
  if (found !== undefined) return found;
  if (!/^\d+(\.\d+)*$/.test(word)) {
    return new UsageError(`'${word}' is neither a Flatcar release nor a channel`, {
      next: `use a number such as ${channelHead('stable', releases).number}, ${CHANNELS.join(', ')}, or portable`,
    });
  }
  return new UsageError(`Flatcar ${word} is not in the catalogue`, {
    next: `the nearest known is ${nearest(word, releases)?.number}; for a newer one run flatcar-ext releases update`,
  });
}

/** Reads `--release`: numbers, channels and `portable`, separated by commas; each target once, all that is wrong at once. */
export function selectTargets(text: string, releases: readonly Release[] = catalogue()): Target[] {
  const words = text
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');
  if (words.length === 0) throw new UsageError('no release was named', { next: 'use for example --release stable' });
  const selected = words.map((word) => selectOne(word, releases));
  const errors = selected.filter((one) => one instanceof UserError);
  const [first] = errors;
  if (first !== undefined) throw errors.length === 1 ? first : new UserErrors(`${errors.length} releases are not known`, errors);
  // Releases are values of the catalogue: the same number is the same object.
  return [...new Set(selected.filter((one): one is Target => !(one instanceof UserError)))];
}

/** Flatcar's list has some hundred kilobytes. */
const MOST_LIST = 16 << 20;

/** Reads Flatcar's list from a file or URL. */
export async function readReleaseList(from: string): Promise<string> {
  if (!/^https?:/.test(from)) {
    return readFile(from, 'utf8').catch((cause: unknown) => {
      throw new UserError('cannot read the list of releases', { where: from, cause });
    });
  }
  const { getText } = await import('../http/client.ts'); // undici takes long to load, and few commands need it
  return getText(from, { max: MOST_LIST }).catch((cause: unknown) => {
    if (!(cause instanceof UserError)) throw cause;
    throw new UserError(cause.message, { where: cause.where ?? from, next: 'name a saved copy with --from FILE', cause });
  });
}
