import { readFile } from 'node:fs/promises';
import {
  ARCHES,
  archWords,
  CHANNELS,
  compareVersions,
  getText,
  parseJson,
  readDataFile,
  UserError,
  type Release,
} from '@flatcar/core/engine';
import * as v from 'valibot';

/** Where Flatcar publishes its releases (flatcar-website: tools/release-scripts/releases_as_json.py). */
export const RELEASES_URL = 'https://www.flatcar.org/releases-json/releases.json';
/** How many releases of each channel (for LTS: of each supported major) the catalogue has. */
const KEPT = 5;
/** An LTS major is supported if its last release is at most this many days older than the newest release of all. */
const LTS_ALIVE = 180;
/** First major that merges extensions in the initrd and takes disk images (flatcar/scripts PR 3162). */
const DDI_ERA = 4628;

const ReleaseNumber = v.pipe(v.string(), v.regex(/^\d+\.\d+\.\d+$/));

/** Flatcar's own list: only the fields that are used. */
const Official = v.record(
  v.string(),
  v.object({
    channel: v.string(),
    architectures: v.array(v.string()),
    release_date: v.pipe(v.string(), v.regex(/^\d{4}-\d{2}-\d{2}/)),
    major_software: v.record(v.string(), v.array(v.string())),
  }),
);

/** A table of what the official list does not have, by the first major that has it. */
const byMajor = <T extends v.GenericSchema>(value: T) => v.record(v.pipe(v.string(), v.digits()), value);
const Capabilities = v.object({
  /** The newest major that was checked: later majors have at least the same. */
  newest: v.number(),
  glibc: byMajor(v.string()),
  systemd: byMajor(v.string()),
  filesystems: byMajor(v.array(v.string())),
});

type Capability = Pick<Release, 'glibc' | 'systemd' | 'filesystems' | 'estimated'>;

/** The capabilities of a major; undefined for a major that is older than the table. */
function capabilityOf(major: number, table: v.InferOutput<typeof Capabilities>): Capability | undefined {
  const last = <T>(since: Record<string, T>): T | undefined =>
    Object.entries(since)
      .toSorted(([a], [b]) => Number(b) - Number(a))
      .find(([first]) => Number(first) <= major)?.[1];
  const [glibc, systemd, filesystems] = [last(table.glibc), last(table.systemd), last(table.filesystems)];
  if (glibc === undefined || systemd === undefined || filesystems === undefined) return undefined;
  return { glibc, systemd, filesystems, estimated: major > table.newest };
}

const majorOf = (number: string): number => Number(number.split('.')[0]);
const byNumber = (a: Release, b: Release): number => compareVersions(b.number, a.number);

/** The release of an entry of the official list; undefined for copies, `edge`, and majors that are older than the table. */
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
    // The list only has the first number; the table has more, if they agree.
    systemd: majorOf(capability.systemd) === majorOf(systemd) ? capability.systemd : systemd,
    glibc: capability.glibc,
    containerd: entry.major_software['containerd']?.[0],
    estimated: capability.estimated,
    mergeStage: major >= DDI_ERA ? 'initrd' : 'system',
    filesystems: capability.filesystems,
    format: major >= DDI_ERA ? 'ddi' : 'squashfs',
  };
}

/**
 * The catalogue from Flatcar's official list: the five newest releases of stable, beta and alpha, and of every LTS major that had a release in
 * the last half year; newest first within a channel. The list's keys `current*` are copies without a number, and its order is alphabetical.
 * `where` names the list in errors.
 */
export function catalogueFrom(text: string, where: string): Release[] {
  const official = parseJson(Official, text, { what: 'list of releases', where, next: `use the official list: ${RELEASES_URL}` });
  const table = readDataFile(Capabilities, new URL('data/flatcar-capabilities.json', import.meta.url));
  const all = Object.entries(official)
    .flatMap(([number, entry]) => releaseOf(number, entry, table) ?? [])
    .toSorted(byNumber);
  const newest = Math.max(...all.map(({ date }) => Date.parse(date)));
  const isAlive = ([head]: readonly Release[]): boolean =>
    head !== undefined && (head.channel !== 'lts' || newest - Date.parse(head.date) <= LTS_ALIVE * 86_400_000);
  return CHANNELS.flatMap((channel) => {
    const members = all.filter((release) => release.channel === channel);
    if (members.length === 0)
      throw new UserError(`the list has no release of channel '${channel}'`, { where, next: `use the official list: ${RELEASES_URL}` });
    const lines = Map.groupBy(members, ({ number }) => (channel === 'lts' ? majorOf(number) : 0));
    return [...lines.values()].filter(isAlive).flatMap((line) => line.slice(0, KEPT));
  });
}

/** The numbers of releases that an update of the catalogue adds, drops and changes. */
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

/** Largest list of releases, in bytes: it has some hundred kilobytes. */
const MOST_LIST = 16 << 20;

/** Reads Flatcar's list from a file or URL. */
export async function readReleaseList(from: string): Promise<string> {
  if (!/^https?:/.test(from)) {
    return readFile(from, 'utf8').catch((cause: unknown) => {
      throw new UserError('cannot read the list of releases', { where: from, cause });
    });
  }
  return getText(from, { max: MOST_LIST }).catch((cause: unknown) => {
    if (!(cause instanceof UserError)) throw cause;
    throw new UserError(cause.message, { where: cause.where ?? from, next: 'pass a saved copy as --from FILE', cause });
  });
}
