import { pathToFileURL } from 'node:url';
import * as v from 'valibot';
import { ARCHES } from './arch.ts';
import { UserError, UserErrors, UsageError } from '../util/errors.ts';
import { readDataFile } from '../util/data-file.ts';
import { byNumber, nearest } from './nearest.ts';
import type { Format, Release, Target } from './target.ts';

/** The embedded catalogue, refreshed by `flatcar-ext releases update`. */
export const CATALOGUE = new URL('data/releases.json', import.meta.url);

/** Channels in the order in which they are shown; `edge` is history. */
export const CHANNELS = ['stable', 'beta', 'alpha', 'lts'] as const;
const ReleaseNumber = v.pipe(v.string(), v.regex(/^\d+\.\d+\.\d+$/));

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
    estimated: v.boolean(),
    mergeStage: v.picklist(['system', 'initrd']),
    filesystems: v.array(v.string()),
    format: v.picklist(['squashfs', 'ddi']),
  }),
);

let loaded: readonly Release[] | undefined;

/** Reads a file that `flatcar-ext releases update` wrote. */
export function readCatalogue(file: URL): readonly Release[] {
  return readDataFile(Catalogue, file);
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

/**
 * The target that an image names. For a release that has left the catalogue, or is not in it yet, the facts of the nearest known release are
 * used, with the image's format.
 */
export function targetOfImage(name: string, format: Format, releases: readonly Release[] = catalogue()): Target {
  if (name === 'portable') return name;
  const known = releases.find(({ number }) => number === name);
  const like = known ?? nearest(name, releases);
  if (like === undefined) throw new UserError(`nothing is known about Flatcar ${name}: the catalogue of releases is empty`);
  return known ?? { ...like, number: name, format, arches: ARCHES };
}

/** The target that a word names, or the error about the word. */
function selectOne(word: string, releases: readonly Release[]): Target | UserError {
  if (word === 'portable') return 'portable';
  const channel = CHANNELS.find((one) => one === word);
  if (channel !== undefined) return channelHead(channel, releases);
  const found = releases.find(({ number }) => number === word);
  if (found !== undefined) return found;
  if (!/^\d+(\.\d+)*$/.test(word)) {
    return new UsageError(`'${word}' is not a Flatcar release or channel`, {
      next: `use a number such as ${channelHead('stable', releases).number}, ${CHANNELS.join(', ')}, or portable`,
    });
  }
  return new UsageError(`Flatcar ${word} is not in the catalogue`, {
    next: `the nearest known release is ${nearest(word, releases)?.number}; for newer ones run flatcar-ext releases update`,
  });
}

/** Reads `--release`: numbers, channels and `portable`, separated by commas; each target once. Throws all errors together. */
export function selectTargets(text: string, releases: readonly Release[] = catalogue()): Target[] {
  const words = text
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');
  if (words.length === 0) throw new UsageError('no release was specified', { next: 'use for example --release stable' });
  const selected = words.map((word) => selectOne(word, releases));
  const errors = selected.filter((one) => one instanceof UserError);
  const [first] = errors;
  if (first !== undefined) throw errors.length === 1 ? first : new UserErrors(`${errors.length} releases are not known`, errors);
  // Releases are values of the catalogue: the same number is the same object.
  return [...new Set(selected.filter((one): one is Target => !(one instanceof UserError)))];
}
