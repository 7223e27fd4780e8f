import { resolve } from 'node:path';
import { ARCHES, hostArch, parseArch, type Arch, type OriginChoice, type Profile, UsageError, envOf } from '@flatcar/core/engine';
import { InvalidArgumentError, Option } from 'commander';

export const archOption = (): Option =>
  new Option('--arch <list>', `architectures, comma-separated: ${ARCHES.join(', ')}`).env('FLATCAR_EXT_ARCH');
export const releaseOption = (): Option =>
  new Option('--release <list>', 'targets, comma-separated: portable, a channel, or a Flatcar release number').env('FLATCAR_EXT_RELEASE');
export const profileOption = (): Option =>
  new Option('--profile <name>', 'fast packs for local use, publish for images that are published: smaller, and slower to pack')
    .choices(['fast', 'publish'])
    .default('fast')
    .env('FLATCAR_EXT_PROFILE');
export const originOption = (): Option =>
  new Option(
    '--origin <kind>',
    'where programs come from: auto takes the files of upstream and compiles only if their host cannot be reached; the others never fall back',
  )
    .choices(['auto', 'upstream', 'source'])
    .default('auto')
    .env('FLATCAR_EXT_ORIGIN');
export const mirrorOption = (): Option =>
  new Option('--mirror <url>', 'fetch https://host/path as <url>/host/path, for all upstream hosts').env('FLATCAR_EXT_MIRROR');

export const sandboxOption = (): Option =>
  new Option(
    '--no-sandbox',
    'compile without a sandbox if none can be set up: build scripts of others run with your rights, and the image cannot be published',
  );

/** What `--json` sets. */
export interface JsonFlag {
  readonly json?: boolean;
}

export const jsonOption = (): Option => new Option('--json', 'print the result as JSON');

/** Collects `name=value`, which may be given several times. */
export function parseKeyValue(text: string, before: Readonly<Record<string, string>> = {}): Record<string, string> {
  const [, name, value] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (name === undefined || value === undefined) throw new InvalidArgumentError('Expected name=value.');
  return { ...before, [name]: value };
}

/** Collects values of an option that may be given several times. */
export const collect = (one: string, before: readonly string[] = []): string[] => [...before, one];

/** Whether an option accepts several values. */
export const isRepeatable = ({ variadic, parseArg }: Option): boolean => variadic || parseArg === parseKeyValue || parseArg === collect;

/** What these options set. */
export interface BuildFlags {
  readonly arch?: string;
  readonly release?: string;
  readonly profile: Profile;
  readonly origin: OriginChoice;
  readonly mirror?: string;
}

/** The words of a comma-separated list, each once. Throws a UsageError if there is none: an empty list is not the default. */
export function wordsOf(text: string, flag: string): string[] {
  const trimmed = text.split(',').map((word) => word.trim());
  const words = [...new Set(trimmed)].filter((word) => word !== '');
  if (words.length === 0) throw new UsageError('the list is empty', { where: flag, next: `name at least one, or leave ${flag} out` });
  return words;
}

/** Architectures of `--arch`; the host's by default. */
export function arches(text: string | undefined): Arch[] {
  return text === undefined ? [hostArch()] : wordsOf(text, '--arch').map(parseArch);
}

/**
 * The absolute path of a path as it was typed: relative to the folder that the command was typed in. Under `npm run build` that is not the
 * current folder, because turbo runs each extension in its own.
 */
export function typedPath(text: string): string {
  if (text === '') throw new InvalidArgumentError('Expected a path.');
  return resolve(envOf('FLATCAR_EXT_CWD') ?? process.cwd(), text);
}
