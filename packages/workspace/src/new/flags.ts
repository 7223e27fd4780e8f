import { readFile } from 'node:fs/promises';
import { filesBelow, isLicense, UsageError, UserError, type ArchWords } from '@flatcar/core/engine';
import type { ScaffoldFile } from './plan.ts';
import type { CargoRequest, GoRequest, NewRequest, ServiceRequest, UpstreamRequest } from './request.ts';

/** The options of `flatcar-ext new`. */
export interface Flags {
  readonly github?: string;
  readonly listing?: string;
  readonly url?: string;
  readonly asset?: string;
  readonly checksum?: string;
  readonly archWords?: string;
  readonly tagPrefix?: string;
  readonly go?: string;
  readonly package?: string[];
  readonly stamp?: Readonly<Record<string, string>>;
  readonly tags?: string;
  readonly cargo?: string;
  readonly features?: string;
  readonly debian?: string[];
  /** True without a folder. */
  readonly files?: string | true;
  readonly suite: string;
  readonly program?: string[];
  readonly version?: string;
  readonly license?: string;
  readonly summary?: string;
  readonly track: string;
  readonly unit?: string;
  readonly condition?: string;
  readonly sha256?: Readonly<Record<string, string>>;
  readonly proof?: string;
  readonly otherVersion?: string;
  readonly build: boolean;
  readonly yes?: boolean;
  readonly mirror?: string;
  readonly json?: boolean;
}

const splitList = (text: string | undefined): string[] | undefined => text?.split(',').map((one) => one.trim());

/** Files of a folder that has the layout of the image. */
async function ownFiles(folder: string): Promise<ScaffoldFile[]> {
  const entries = await filesBelow(folder).catch((cause: unknown) => {
    if (cause instanceof UserError) throw cause;
    throw new UserError('the folder cannot be read', {
      where: folder,
      next: 'pass a folder with the layout of the image (usr/bin/…)',
      cause,
    });
  });
  const paths = entries.map(({ path }) => path);
  const outside = paths.find((path) => !path.startsWith('usr/'));
  if (paths.length === 0 || outside !== undefined)
    throw new UserError(outside === undefined ? 'the folder is empty' : `'${outside}' is not below usr/`, {
      where: folder,
      next: 'use the layout of the image: usr/bin/…, usr/lib/systemd/system/…; put files for /etc into usr/share/NAME/etc, with a C rule of tmpfiles.d',
    });
  // A link may lead anywhere: its target is not read.
  return Promise.all(
    entries.map(async ({ path, full, type }) => ({ path, text: type === 'link' ? '' : await readFile(full, 'utf8').catch(() => '') })),
  );
}

function archWordsOf(text: string | undefined): ArchWords | undefined {
  if (text === undefined) return undefined;
  const [x86, arm] = splitList(text) ?? [];
  if (x86 === undefined || arm === undefined)
    throw new UsageError(`--arch-words '${text}' is not two words`, {
      next: 'pass both, such as --arch-words x64,arm64; leave one empty if a name has no word: ,-arm64',
    });
  return { 'x86-64': x86, arm64: arm };
}

/** The licence of --license, with or without the component's name that `pin` takes. */
function licenseOf(text: string | undefined): string | undefined {
  const license = text?.replace(/^[\w.-]+=/, '');
  if (license !== undefined && !isLicense(license))
    throw new UsageError(`'${license}' is not a valid SPDX expression`, {
      next: 'see https://spdx.org/licenses, such as MIT or GPL-3.0-only; a licence that SPDX does not list is LicenseRef-NAME',
    });
  return license;
}

function serviceOf({ unit, condition }: Flags): ServiceRequest | undefined {
  if (condition !== undefined && unit === undefined) throw new UsageError('--condition needs --unit', { next: 'pass --unit as well' });
  return unit === undefined ? undefined : { exec: unit, condition };
}

function sourceOf({ go, cargo, stamp: stamps, package: packages, tags, features }: Flags): GoRequest | CargoRequest | undefined {
  if (go !== undefined) return { kind: 'go', module: go, packages, stamps, tags: splitList(tags) };
  return cargo === undefined ? undefined : { kind: 'cargo', crate: cargo, features: splitList(features) };
}

async function listingOf({ listing }: Flags): Promise<UpstreamRequest['listing']> {
  if (listing === undefined) return undefined;
  const text = await readFile(listing, 'utf8').catch((cause: unknown) => {
    throw new UserError('the listing cannot be read', { where: listing, cause });
  });
  return { text, where: listing };
}

/** Throws a UsageError for origins that cannot be combined. */
function checkOrigins({ files, debian, github, url, go, cargo }: Flags): void {
  const isUpstream = [github, url, go, cargo].some((one) => one !== undefined);
  if (files !== undefined && (isUpstream || debian !== undefined))
    throw new UsageError('--files cannot be combined with another origin', {
      next: 'leave it out, and put own files beside upstream programs below files/ of the new extension',
    });
  if (debian !== undefined && isUpstream)
    throw new UsageError('--debian cannot be combined with another origin', { next: 'choose one of them' });
  if (go !== undefined && cargo !== undefined) throw new UsageError('--go and --cargo exclude each other', { next: 'choose one of them' });
}

/** The request that the options describe. Throws a UsageError for options that do not make sense. */
export async function requestOf(name: string, flags: Flags): Promise<NewRequest> {
  checkOrigins(flags);
  const { version, summary, track, suite, program: programs, url, asset, github, checksum, tagPrefix } = flags;
  const common = { name, version, summary, track, programs, license: licenseOf(flags.license), unit: serviceOf(flags) };
  const arch = archWordsOf(flags.archWords);
  if (flags.files !== undefined) return { ...common, origin: 'files', files: flags.files === true ? [] : await ownFiles(flags.files) };
  if (flags.debian !== undefined) return { ...common, origin: 'packages', packages: flags.debian, suite };
  return {
    ...common,
    origin: 'upstream',
    github,
    listing: await listingOf(flags),
    file: url !== undefined ? { url } : asset !== undefined ? { asset } : undefined,
    checksum,
    arch,
    tagPrefix,
    source: sourceOf(flags),
    isKnown: flags.sha256 !== undefined,
  };
}
