import { basename } from 'node:path';
import {
  AnswerError,
  fetchNew,
  fillWords,
  isLicense,
  PLAIN_VERSION,
  UnreachableError,
  UserError,
  archWords,
  ARCHES,
  type Arch,
  type ArchWords,
} from '@flatcar/core';
import type { UpstreamContext } from './context.ts';
import { descriptionOf, licenseOf, releaseOf } from './github.ts';
import { inspectDebian, serviceOf, type PackagesFound } from './inspect-debian.ts';
import { inspectCargo, inspectFile, inspectGo, oneLine, type Source } from './inspect.ts';
import { generalizeUrl, proposeAssets, readListing, splitTag, type AssetProposal, type Listing } from './propose.ts';
import { serviceText, type Plan } from './scaffold.ts';
import { proposeSignatures } from './signers.ts';
import { listVersions } from './versions.ts';

/** What is said about a new extension; the rest is found out, or asked for. */
export interface NewRequest {
  readonly name: string;
  readonly github?: string;
  /** Text of a saved answer of GitHub's API, where it was saved. */
  readonly listing?: { readonly text: string; readonly where: string };
  readonly url?: string;
  readonly asset?: string;
  readonly checksum?: string;
  readonly arch?: ArchWords;
  readonly tagPrefix?: string;
  readonly go?: string;
  readonly packages?: readonly string[];
  readonly stamps?: Readonly<Record<string, string>>;
  readonly tags?: readonly string[];
  readonly cargo?: string;
  readonly features?: readonly string[];
  readonly debian?: readonly string[];
  readonly suite: string;
  readonly programs?: readonly string[];
  readonly version?: string;
  readonly license?: string;
  readonly summary?: string;
  readonly keep: string;
  /** A command that a service is written for, or the name of a service that Debian's packages bring. */
  readonly unit?: { readonly exec: string; readonly condition?: string };
  /** True where upstream's bytes are known from elsewhere: nothing is downloaded to look into it. */
  readonly known: boolean;
}

/** How what is not known is asked for: on a terminal of a person, in scripts by taking what was proposed. */
export interface Ask {
  /** `flag` says it without being asked; `wrong` says what is wrong with an answer, which is then asked for again. */
  text(question: string, flag: string, proposed?: string, wrong?: (answer: string) => string | undefined): Promise<string>;
  choose<T>(question: string, options: readonly { readonly value: T; readonly label: string }[]): Promise<T>;
  /** Tells what was found. */
  note(text: string): void;
}

/** What is wrong with an answer that is to be a licence. */
export function wrongLicense(answer: string): string | undefined {
  return isLicense(answer) ? undefined : 'It is no SPDX expression, such as Apache-2.0 or MIT OR BSD-3-Clause.';
}

/** No answer from upstream is no reason to stop where everything was said. */
async function optional<T>(asked: Promise<T>): Promise<T | undefined> {
  return asked.catch((error: unknown) => {
    if (error instanceof UnreachableError || error instanceof AnswerError) return undefined;
    throw error;
  });
}

async function listingOf(request: NewRequest, context: UpstreamContext): Promise<Listing | undefined> {
  const { github, listing, version, tagPrefix = 'v', asset, url } = request;
  if (listing !== undefined) return readListing(listing.text, listing.where);
  if (github === undefined || asset !== undefined || url !== undefined) return undefined;
  const text = await releaseOf(github, version === undefined ? undefined : `${tagPrefix}${version}`, context).catch((error: unknown) => {
    if (!(error instanceof UnreachableError)) throw error;
    if (request.go !== undefined || request.cargo !== undefined) return undefined; // there is another origin
    throw new UserError(error.message, {
      where: `https://github.com/${github}/releases`,
      next: 'save the answer of GitHub’s API elsewhere and give it as --listing FILE, or say --asset PATTERN and --version',
      cause: error,
    });
  });
  return text === undefined ? undefined : readListing(text, `https://github.com/${github}/releases`);
}

async function newestOf(request: NewRequest, listing: Listing | undefined, context: UpstreamContext): Promise<string> {
  const { version, go, cargo, debian, suite, github, tagPrefix } = request;
  if (version !== undefined) {
    if (!PLAIN_VERSION.test(version))
      throw new UserError(`'${version}' is no version to ship`, { next: 'write it without v; pre-releases are not shipped' });
    return version;
  }
  if (listing !== undefined) return splitTag(listing.tag_name).version;
  const source =
    go !== undefined
      ? { kind: 'go' as const, at: go, keep: 'newest' }
      : cargo !== undefined
        ? { kind: 'crates' as const, at: cargo, keep: 'newest' }
        : debian !== undefined
          ? { kind: 'debian' as const, at: `${suite}/main/${debian[0] ?? ''}`, keep: 'newest' }
          : github === undefined
            ? undefined
            : { kind: 'github' as const, at: github, keep: 'newest', ...(tagPrefix === undefined ? {} : { tagPrefix }) };
  if (source === undefined) throw new UserError('the version is not known', { next: 'say --version' });
  const [newest] = await listVersions(source, context);
  if (newest === undefined) throw new UserError('upstream lists no version', { where: source.at, next: 'say --version' });
  return newest;
}

interface FileFound {
  readonly file: NonNullable<Plan['file']>;
  readonly programs?: readonly string[];
  readonly license?: string;
}

const urlOf = (pattern: string, github: string | undefined, prefix: string): string =>
  /^https?:/.test(pattern) ? pattern : `https://github.com/${github ?? ''}/releases/download/${prefix}{version}/${pattern}`;

/** Upstream's own file: as said, or as its list of assets proposes. */
async function fileOf(
  request: NewRequest,
  listing: Listing | undefined,
  version: string,
  prefix: string,
  ask: Ask,
  context: UpstreamContext,
): Promise<FileFound | undefined> {
  const { name, url, asset, github, checksum, arch } = request;
  let proposal: Omit<AssetProposal, 'files'> | undefined;
  const said = url === undefined ? asset : generalizeUrl(url, version);
  if (said !== undefined)
    proposal = {
      asset: said,
      checksum: checksum ?? (asset === undefined ? 'none' : 'github'),
      signatures: [],
      ...(arch === undefined ? {} : { arch }),
    };
  else if (listing !== undefined) {
    const proposals = proposeAssets(listing, name);
    const [first] = proposals;
    if (first === undefined) {
      if (request.go === undefined && request.cargo === undefined)
        throw new UserError(`the release ${listing.tag_name} has no Linux programs for both architectures`, {
          where: `https://github.com/${github ?? ''}/releases`,
          next: `it has ${
            listing.assets
              .map((one) => one.name)
              .slice(0, 12)
              .join(', ') || 'no files'
          }; say --asset and --arch-words, or --go or --cargo`,
        });
      ask.note('upstream has no Linux programs for both architectures: only the source is an origin');
      return undefined;
    }
    proposal =
      proposals.length === 1
        ? first
        : await ask.choose(
            'Which files?',
            proposals.map((value) => ({ value, label: `${value.files['x86-64']} (checked by: ${value.checksum})` })),
          );
    if (checksum !== undefined) proposal = { ...proposal, checksum };
  }
  if (proposal === undefined) return undefined;
  const base: NonNullable<Plan['file']> = {
    pattern: proposal.asset,
    checksum: proposal.checksum,
    signatures: [],
    ...(proposal.arch === undefined ? {} : { arch: proposal.arch }),
  };
  if (request.known) return { file: base };
  // Looking into both architectures' files shows that they have the same programs; what upstream publishes is checked when they are pinned.
  const looked = await Promise.all(
    ARCHES.map(async (one: Arch) => {
      const words = {
        version,
        arch: proposal.arch?.[one] ?? archWords(one).go,
        goarch: archWords(one).go,
        machine: archWords(one).machine,
      };
      const at = fillWords(urlOf(proposal.asset, github, prefix), words);
      const fetched = await fetchNew(context.store, at, context);
      const fileName = decodeURIComponent(new URL(at).pathname.split('/').at(-1) ?? '');
      return { at, fetched, layout: await inspectFile(fetched.path, fileName, request.programs?.[0] ?? name, one, context) };
    }),
  ).catch((error: unknown) => {
    if (error instanceof UnreachableError)
      throw new UserError(`the file cannot be looked at: ${error.message}`, {
        ...(error.where === undefined ? {} : { where: error.where }),
        next: 'where its digests are known from elsewhere: --sha256 x86-64=HASH --sha256 arm64=HASH --proof WHERE-FROM',
        cause: error,
      });
    throw error;
  });
  const [x86, arm] = looked;
  if (x86 === undefined || arm === undefined) throw new Error('two architectures');
  const differing = x86.layout.programs.filter((one) => !arm.layout.programs.includes(one));
  if (differing.length > 0) ask.note(`only one architecture has ${differing.join(', ')}`);
  if (x86.layout.dynamic.length > 0)
    ask.note(`${x86.layout.dynamic.join(', ')}: needs libraries of the host; lint will say whether portable images can have it`);
  const checksumUrl = ['github', 'none'].includes(base.checksum)
    ? undefined
    : new URL(
        fillWords(base.checksum, {
          url: x86.at,
          file: x86.at.split('/').at(-1) ?? '',
          version,
          arch: 'amd64',
          goarch: 'amd64',
          machine: 'x86_64',
        }),
        x86.at,
      ).href;
  const { signatures, notes } = await proposeSignatures(
    { ...proposal, files: { 'x86-64': '', arm64: '' } },
    { url: x86.at, path: x86.fetched.path, sha256: x86.fetched.sha256 },
    checksumUrl,
    context,
  );
  notes.forEach((note) => ask.note(note));
  return {
    file: { ...base, signatures },
    programs: x86.layout.programs.filter((one) => arm.layout.programs.includes(one)),
    ...(x86.layout.license === undefined ? {} : { license: x86.layout.license }),
  };
}

/** Of several programs those that belong to the extension, or to the packages asked for, by their name, else all. */
function pick(programs: readonly string[], name: string, packages: readonly string[] = []): readonly string[] {
  const own = programs.filter((one) => [name, ...packages].includes(one.replaceAll('_', '-')));
  return own.length > 0 ? own : programs;
}

/** The service that is asked for: written for a command, or out of Debian's packages with the users and folders that they give it. */
function unitOf({ name, unit }: NewRequest, summary: string, packaged: PackagesFound | undefined): Pick<Plan, 'unit' | 'files'> {
  if (unit === undefined) return {};
  const { exec, condition } = unit;
  const files = [...(packaged?.settings ?? [])].map(([path, text]) => ({ path, text }));
  if (packaged === undefined || !exec.endsWith('.service')) {
    const command = exec.startsWith('/') ? exec : `/usr/bin/${exec}`;
    return { unit: { name: `${name}.service`, text: serviceText(summary, { ...unit, exec: command }) }, files };
  }
  // Up to major 4593 users are made before extensions are merged.
  const users = files.filter(({ path }) => path.startsWith('usr/lib/sysusers.d/')).map(({ path }) => `ExecStartPre=+/usr/bin/systemd-sysusers ${basename(path)}\n`); // prettier-ignore
  const text = serviceOf(packaged, exec)
    .replace('[Unit]\n', condition === undefined ? '$&' : `$&ConditionPathExists=${condition}\n`)
    .replace('[Service]\n', `$&${users.join('')}`);
  return { unit: { name: exec, text }, files };
}

/** What of Debian's packages does not come into an image by itself, and what a person does about it. */
function tellOf({ name, unit, programs }: Pick<Plan, 'name' | 'unit' | 'programs'>, packaged: PackagesFound, ask: Ask): void {
  const others = packaged.programs.filter((one) => !programs.includes(one));
  if (others.length > 0) ask.note(`left out, unless --program names them: ${others.join(', ')}`);
  if (unit === undefined) {
    if (packaged.services.size > 0) ask.note(`the packages have ${[...packaged.services.keys()].join(', ')}: --unit with that name starts it with the image`); // prettier-ignore
    return;
  }
  if (packaged.users.length > 0)
    ask.note(`Debian makes users by a script, which does not run here: ${packaged.users.join('; ')}. Write files/usr/lib/sysusers.d/${name}.conf, and ExecStartPre=+/usr/bin/systemd-sysusers ${name}.conf into the service`); // prettier-ignore
  if (packaged.config.length > 0)
    ask.note(`files below /etc are left out: ${packaged.config.join(', ')}. What the service cannot be without goes to files/usr/share/${name}/etc, with a C rule of tmpfiles.d(5)`); // prettier-ignore
}

/** Finds out, proposes and asks for everything that a new extension is written from. Writes nothing. */
export async function planNew(request: NewRequest, ask: Ask, context: UpstreamContext): Promise<Plan> {
  const { name, github, go, cargo, debian } = request;
  const listing = await listingOf(request, context);
  const version = await newestOf(request, listing, context);
  const prefix = request.tagPrefix ?? (listing === undefined ? 'v' : splitTag(listing.tag_name).prefix);
  const found = await fileOf(request, listing, version, prefix, ask, context);
  if (found === undefined && go === undefined && cargo === undefined && debian === undefined)
    throw new UserError('nothing says where the files come from', { next: 'say --github, --url, --go, --cargo or --debian' });
  const source: Source | undefined =
    go !== undefined
      ? await inspectGo(go, version, context)
      : cargo !== undefined
        ? await inspectCargo(cargo, version, context)
        : undefined;

  const packaged = debian === undefined ? undefined : await inspectDebian(debian, request.suite, context);

  const candidates = found?.programs ?? source?.programs ?? packaged?.programs ?? [];
  const proposed = candidates.length === 0 ? [name] : pick(candidates, name, debian);
  // Packages often have more programs than an image is for.
  const programs =
    request.programs ??
    (packaged === undefined || packaged.programs.length < 2
      ? proposed
      : (await ask.text(`Which programs, of ${packaged.programs.join(', ')}?`, '--program', proposed.join(' '))).split(/[\s,]+/).filter(Boolean)); // prettier-ignore
  const packages =
    request.packages ??
    programs.map((program) => {
      const index = source?.programs.indexOf(program) ?? -1;
      return source?.packages[index] ?? (source?.packages.length === 1 ? source.packages[0] : undefined) ?? '';
    });
  if (go !== undefined && packages.includes(''))
    throw new UserError(`the module ${go} has no main package for ${programs.filter((_, index) => packages[index] === '').join(', ')}`, {
      next: `say --package; it has ${source?.packages.join(', ') || 'none at the usual places'}`,
    });
  const licenseFound =
    request.license ?? found?.license ?? source?.license ?? (github === undefined ? undefined : await optional(licenseOf(github, context)));
  const described =
    source?.summary ??
    (packaged === undefined ? undefined : `${name}, ${packaged.summary}`) ??
    (github === undefined ? undefined : await optional(descriptionOf(github, context)));
  const summary =
    request.summary ?? (await ask.text('What is it, in one line?', '--summary', described === undefined ? undefined : oneLine(described)));
  const service = unitOf(request, summary, packaged);
  if (packaged !== undefined) tellOf({ name, programs, ...service }, packaged, ask);
  return {
    name,
    version,
    keep: request.keep,
    programs,
    summary,
    // Debian's licences are read out of its packages when they are pinned.
    license:
      debian !== undefined
        ? (request.license ?? '')
        : (request.license ?? (await ask.text('Its licence, as SPDX?', '--license', licenseFound, wrongLicense))),
    ...(github === undefined ? {} : { github: { repo: github, tagPrefix: prefix } }),
    ...(found === undefined ? {} : { file: found.file }),
    ...(go === undefined ? {} : { go: { module: go, packages, stamps: request.stamps ?? source?.stamps ?? {}, tags: request.tags ?? [] } }),
    ...(cargo === undefined ? {} : { cargo: { crate: cargo, features: request.features ?? [] } }),
    ...(debian === undefined ? {} : { debian: { packages: debian, suite: request.suite, programs } }),
    ...service,
  };
}
