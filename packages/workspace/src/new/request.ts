import { readFile } from 'node:fs/promises';
import { filesBelow, isLicense, UsageError, UserError } from '@flatcar/core/engine';
import type { NewRequest } from './plan.ts';
import type { ScaffoldFile } from './scaffold.ts';

/** What the command line of `new` says. */
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

const words = (text: string | undefined): string[] | undefined => text?.split(',').map((one) => one.trim());

/** Files of a folder that is laid out as the image is. */
async function ownFiles(folder: string): Promise<ScaffoldFile[]> {
  const entries = await filesBelow(folder).catch((cause: unknown) => {
    if (cause instanceof UserError) throw cause;
    throw new UserError('the folder cannot be read', {
      where: folder,
      next: 'name a folder that is laid out as the image is (usr/bin/…)',
      cause,
    });
  });
  const paths = entries.map(({ path }) => path);
  const outside = paths.find((path) => !path.startsWith('usr/'));
  if (paths.length === 0 || outside !== undefined)
    throw new UserError(outside === undefined ? 'the folder is empty' : `'${outside}' is not below usr/`, {
      where: folder,
      next: 'lay it out as the image is: usr/bin/…, usr/lib/systemd/system/…; what belongs to /etc goes to usr/share/NAME/etc with a C rule of tmpfiles.d',
    });
  // Of a link there is no text: it may lead to anything.
  return Promise.all(
    entries.map(async ({ path, full, type }) => ({ path, text: type === 'link' ? '' : await readFile(full, 'utf8').catch(() => '') })),
  );
}

/** What is asked for, out of what the command line says. */
export async function requestOf(name: string, flags: Flags): Promise<NewRequest> {
  const { listing, archWords, tags, features, unit, condition } = flags;
  const [x86, arm] = words(archWords) ?? [];
  if (archWords !== undefined && (x86 === undefined || arm === undefined))
    throw new UsageError(`'${archWords}' are not two words`, {
      next: 'such as --arch-words x64,arm64; leave one empty where a name has none: ,-arm64',
    });
  if (condition !== undefined && unit === undefined) throw new UsageError('--condition is about the unit', { next: 'say --unit as well' });
  const simple = ['github', 'url', 'asset', 'checksum', 'tagPrefix', 'go', 'cargo', 'debian', 'version', 'summary', 'mirror'] as const;
  // As `pin` takes it, with the component's name, does too.
  const license = flags.license?.replace(/^[\w.-]+=/, '');
  if (license !== undefined && !isLicense(license))
    throw new UsageError(`'${license}' is not a valid SPDX expression`, {
      next: 'see https://spdx.org/licenses, such as MIT or GPL-3.0-only; a licence that SPDX does not list is LicenseRef-NAME',
    });
  if (flags.files !== undefined && [flags.github, flags.url, flags.go, flags.cargo, flags.debian].some((one) => one !== undefined))
    throw new UsageError('--files is for files of this repository only', {
      next: 'leave it out; own files beside upstream programs go below files/',
    });
  return {
    name,
    ...Object.fromEntries(simple.flatMap((key) => (flags[key] === undefined ? [] : [[key, flags[key]]]))),
    ...(listing === undefined ? {} : { listing: { text: await readFile(listing, 'utf8').catch((cause: unknown) => { throw new UserError('the listing cannot be read', { where: listing, cause }); }), where: listing } }), // prettier-ignore
    ...(x86 === undefined || arm === undefined ? {} : { arch: { 'x86-64': x86, arm64: arm } }),
    ...(flags.package === undefined ? {} : { packages: flags.package }),
    ...(flags.stamp === undefined ? {} : { stamps: flags.stamp }),
    ...(tags === undefined ? {} : { tags: words(tags) ?? [] }),
    ...(features === undefined ? {} : { features: words(features) ?? [] }),
    ...(flags.program === undefined ? {} : { programs: flags.program }),
    ...(unit === undefined ? {} : { unit: { exec: unit, ...(condition === undefined ? {} : { condition }) } }),
    ...(license === undefined ? {} : { license }),
    ...(flags.files === undefined ? {} : { own: flags.files === true ? [] : await ownFiles(flags.files) }),
    suite: flags.suite,
    track: flags.track,
    known: flags.sha256 !== undefined,
  };
}
