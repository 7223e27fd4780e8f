import { basename } from 'node:path';
import {
  fetchNew,
  expandTemplate,
  HOST_PROGRAMS,
  isLicense,
  isNetworkFailure,
  isUnanswered,
  PLAIN_VERSION,
  UserError,
  archWords,
  ARCHES,
  type Arch,
  type ArchWords,
  type VersionSource,
  locationOf,
} from '@flatcar/core/engine';
import {
  MOST_FILE,
  type UpstreamContext,
  descriptionOf,
  licenseOf,
  releaseOf,
  assertOffered,
  debianVersion,
  listVersions,
  newerMajor,
} from '@flatcar/upstream';
import { capabilitiesOf, daemonOf, type Daemon, programsOfUnit, serviceOf } from './daemon.ts';
import { inspectDebian, proposeOrigin, type DebianRequest, type PackagesFound } from './inspect-debian.ts';
import { inspectCargo, inspectFile, inspectGo, oneLine, type Source } from './inspect.ts';
import { generalizeUrl, proposeAssets, readListing, splitTag, type AssetProposal, type Listing } from './propose.ts';
import { serviceText, type Plan, type ScaffoldFile } from './scaffold.ts';
import { proposeSignatures } from './signers.ts';

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
  /** Own files only: those of a folder that is laid out as the image is; empty for an extension that is still to be filled. */
  readonly own?: readonly ScaffoldFile[];
  readonly suite: string;
  readonly programs?: readonly string[];
  readonly version?: string;
  readonly license?: string;
  readonly summary?: string;
  readonly track: string;
  /** A command that a service is written for, or the name of a service that Debian's packages bring. */
  readonly unit?: { readonly exec: string; readonly condition?: string };
  /** True where upstream's bytes are known from elsewhere: nothing is downloaded to look into it. */
  readonly known: boolean;
}

/** How what is not known is asked for: on a terminal of a person, in scripts by taking what was proposed. */
export interface Prompter {
  /** `flag` says it without being asked; `wrong` says what is wrong with an answer, which is then asked for again. */
  text(question: string, flag: string, proposed?: string, wrong?: (answer: string) => string | undefined): Promise<string>;
  choose<T>(question: string, options: readonly { readonly value: T; readonly label: string }[]): Promise<T>;
  /** Tells what was found. */
  note(text: string): void;
}

/** What is wrong with an answer that is to be a licence. */
export function wrongLicense(answer: string): string | undefined {
  return isLicense(answer) ? undefined : 'It is not a valid SPDX expression, such as Apache-2.0 or MIT OR BSD-3-Clause.';
}

/** No answer from upstream is no reason to stop where everything was said. */
async function optional<T>(asked: Promise<T>): Promise<T | undefined> {
  return asked.catch((error: unknown) => {
    if (isUnanswered(error)) return undefined;
    throw error;
  });
}

async function listingOf(request: NewRequest, context: UpstreamContext): Promise<Listing | undefined> {
  const { github, listing, version, tagPrefix = 'v', asset, url } = request;
  if (listing !== undefined) return readListing(listing.text, listing.where);
  if (github === undefined || asset !== undefined || url !== undefined) return undefined;
  const text = await releaseOf(github, version === undefined ? undefined : `${tagPrefix}${version}`, context).catch((error: unknown) => {
    if (!isNetworkFailure(error)) throw error;
    if (request.go !== undefined || request.cargo !== undefined) return undefined; // there is another origin
    throw new UserError(error.message, {
      where: `https://github.com/${github}/releases`,
      next: 'save the answer of GitHub’s API elsewhere and give it as --listing FILE, or say --asset PATTERN and --version',
      cause: error,
    });
  });
  return text === undefined ? undefined : readListing(text, `https://github.com/${github}/releases`);
}

/** Where versions of what is built or taken from packages are listed. */
function compiledFrom({ go, cargo, debian, suite }: NewRequest): VersionSource | undefined {
  if (go !== undefined) return { kind: 'go', module: go, track: 'newest' };
  if (cargo !== undefined) return { kind: 'crates', crate: cargo, track: 'newest' };
  return debian === undefined ? undefined : { kind: 'debian', package: `${suite}/main/${debian[0] ?? ''}`, track: 'newest' };
}

/** The version of an extension that is dated. */
const DATED = /^20\d\d\.\d{1,2}\.\d{1,2}$/;

/**
 * Whether an extension of packages is dated: the version of the first package cannot be an image's (`3.5a`, which systemd ranks before 3.5), or a
 * date is asked for that is not its version.
 */
async function isDated({ debian, suite, go, cargo, version }: NewRequest, ask: Prompter, context: UpstreamContext): Promise<boolean> {
  const [lead] = debian ?? [];
  if (lead === undefined || go !== undefined || cargo !== undefined) return false;
  const actual = await debianVersion(`${suite}/main/${lead}`, context);
  if (PLAIN_VERSION.test(actual)) return version !== undefined && version !== actual && DATED.test(version);
  ask.note(`${lead} is version ${actual}, and an image's version has digits and dots only: the extension is dated`);
  return true;
}

async function newestOf(request: NewRequest, listing: Listing | undefined, dated: boolean, context: UpstreamContext): Promise<string> {
  const { version, go, github, tagPrefix } = request;
  if (dated && (version === undefined || DATED.test(version))) return version ?? today();
  if (version !== undefined) {
    if (!PLAIN_VERSION.test(version))
      throw new UserError(`'${version}' is no version to ship`, { next: 'write it without v; pre-releases are not shipped' });
    const from = compiledFrom(request);
    if (from !== undefined)
      await assertOffered(from, version, { name: locationOf(from), next: (newest) => `say --version ${newest}` }, context);
    return version;
  }
  if (listing !== undefined) return splitTag(listing.tag_name).version;
  const source: VersionSource | undefined =
    compiledFrom(request) ??
    (github === undefined
      ? undefined
      : { kind: 'github', repo: github, track: 'newest', ...(tagPrefix === undefined ? {} : { tagPrefix }) });
  if (source === undefined) throw new UserError('the version is not known', { next: 'say --version' });
  const [newest] = await listVersions(source, context);
  const next = go === undefined || newest === undefined ? undefined : await newerMajor(go, newest, context);
  if (next !== undefined)
    throw new UserError(`${go} ends with ${newest}, and ${next.module} has ${next.version}`, {
      where: locationOf(source),
      next: `say --go ${next.module}, or --version ${newest} for the old one`,
    });
  if (newest === undefined) throw new UserError('upstream lists no version', { where: locationOf(source), next: 'say --version' });
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
  ask: Prompter,
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
      const at = expandTemplate(urlOf(proposal.asset, github, prefix), words);
      const fetched = await fetchNew(context.store, at, { ...context, max: MOST_FILE });
      const fileName = decodeURIComponent(new URL(at).pathname.split('/').at(-1) ?? '');
      return { at, fetched, layout: await inspectFile(fetched.path, fileName, request.programs?.[0] ?? name, one, context) };
    }),
  ).catch((error: unknown) => {
    if (isNetworkFailure(error))
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
        expandTemplate(base.checksum, {
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
    { url: x86.at, path: x86.fetched.path, sha256: x86.fetched.sha256, version },
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

/** The service that is asked for: written for a command, or out of Debian's packages, with what their scripts would do for it. */
function unitOf(
  { name, unit }: NewRequest,
  summary: string,
  packaged: PackagesFound | undefined,
  ask: Prompter,
): Pick<Plan, 'unit' | 'files' | 'machine'> & { readonly data: readonly string[] } {
  if (unit === undefined) return { data: [] };
  const { exec, condition } = unit;
  const isPackaged = packaged !== undefined && exec.endsWith('.service');
  const command = exec.startsWith('/') ? exec : `/usr/bin/${exec}`;
  const text = isPackaged ? serviceOf(packaged, exec) : serviceText(summary, { ...unit, exec: command });
  const about = {
    name: isPackaged ? exec : `${name}.service`,
    text: isPackaged && condition !== undefined ? text.replace('[Unit]\n', `$&ConditionPathExists=${condition}\n`) : text,
  };
  const daemon: Daemon = packaged === undefined ? { unit: about, files: [], data: [], notes: [] } : daemonOf(name, about, packaged);
  for (const note of daemon.notes) ask.note(note);
  const copies = daemon.files.some((file) => condition !== undefined && file.text.includes(` ${condition} `));
  const needed = condition === undefined || copies ? undefined : condition;
  if (needed !== undefined)
    ask.note(`the machine test writes an empty ${needed}: fill in what the service needs there, in test/extension.test.ts`);
  return {
    unit: daemon.unit,
    files: daemon.files,
    data: daemon.data,
    machine: {
      active: [daemon.unit.name],
      runsAs: daemon.user === undefined ? undefined : { [daemon.unit.name]: daemon.user },
      files: needed === undefined ? undefined : { [needed]: '' },
    },
  };
}

/** The origin of packages, with what their programs look for at run time; what was added and what is left out is told. */
async function originOf(
  request: DebianRequest,
  ask: Prompter,
  context: UpstreamContext,
): Promise<Pick<NonNullable<Plan['debian']>, 'programs' | 'data' | 'dlopen' | 'waive'>> {
  const { origin, added, left } = await proposeOrigin(request, context);
  for (const { line, files, size, wantedBy } of added)
    ask.note(`taken along: ${line} (${files} files, ${(size / (1 << 20)).toFixed(1)} MiB), which ${wantedBy} looks into`);
  for (const { path, why, line } of left)
    ask.note(`left out: ${path}: ${why}${line === undefined ? '' : `; ${line} in extension.ts adds it`}`);
  const waive = left.filter(({ isReported }) => isReported).map(({ path, why }) => [`compiled-in-path:${path}`, `left out: ${why}`]);
  return {
    programs: origin.programs,
    data: origin.data ?? [],
    dlopen: origin.dlopen ?? [],
    waive: Object.fromEntries(waive) as Record<string, string>,
  };
}

/** Throws for programs that no package has, and for scripts that nothing can run: their interpreter is neither in the image nor on Flatcar. */
function assertPrograms(found: PackagesFound, programs: readonly string[]): void {
  const { interpreters, programs: there, owners, elsewhere } = found;
  const absent = programs.filter((program) => !owners.has(program) && !elsewhere.has(program));
  if (absent.length > 0)
    throw new UserError(`neither the packages nor what they depend on have a program ${absent.join(', ')}`, {
      next: `the packages have ${[...new Set([...there, ...elsewhere.keys()])].join(', ') || 'none'}; name the package that has it as well, by --debian`,
    });
  for (const program of programs) {
    const at = interpreters.get(program);
    const name = at?.split('/').at(-1) ?? '';
    if (at === undefined || programs.includes(name) || HOST_PROGRAMS.has(at.includes('/') ? at : `/usr/bin/${at}`)) continue;
    if (elsewhere.has(program)) continue; // the program that the script wraps is taken
    throw new UserError(`'${program}' is a script for ${at}, which is neither in the image nor on Flatcar`, {
      next: `choose other programs by --program; a script for ${name} needs ${name} with its library, which is an extension of its own`,
    });
  }
}

/** Throws where the first package, which the extension has its version of, contains nothing: a program comes from another one. */
function assertLead(
  { empty, owners, elsewhere, versions }: PackagesFound,
  [lead = '']: readonly string[],
  programs: readonly string[],
): void {
  if (!empty.includes(lead)) return;
  const [program = ''] = programs;
  const owner = elsewhere.get(program)?.package ?? owners.get(program) ?? '';
  throw new UserError(
    `the package ${lead} contains nothing: it depends on others, and ${program} ${versions.get(program) ?? ''} is in ${owner}`,
    {
      next: `name that package first: --debian ${owner}`,
    },
  );
}

/** What of Debian's packages does not come into an image by itself, and what a person does about it. */
function tellOf({ unit, programs }: Pick<Plan, 'unit' | 'programs'>, packaged: PackagesFound, ask: Prompter): void {
  const others = packaged.programs.filter((one) => !programs.includes(one));
  if (others.length > 0) ask.note(`left out, unless --program names them: ${others.join(', ')}`);
  if (unit === undefined && packaged.services.size > 0)
    ask.note(`the packages have ${[...packaged.services.keys()].join(', ')}: --unit with that name starts it with the image`);
  for (const { program, capabilities } of capabilitiesOf(packaged))
    if (programs.includes(program))
      ask.note(
        `Debian gives ${program} the file capabilities ${capabilities}, which an image cannot have: root runs it, or a service with AmbientCapabilities=`,
      );
}

/** The licence of packages: empty where their copyright files tell it, which is read when they are pinned. */
async function licenseOfPackages(request: NewRequest, packaged: PackagesFound, ask: Prompter): Promise<string> {
  if (request.license !== undefined || packaged.licenses.length > 0) return request.license ?? '';
  const named =
    packaged.unclear.length === 0
      ? 'its copyright file is not for a program to read'
      : `its copyright file names ${packaged.unclear.join(', ')}`;
  return ask.text(`The licence of ${request.name}, as SPDX (${named})?`, '--license', undefined, wrongLicense);
}

/** Today, as the version of an extension that is dated. */
const today = (): string => new Date().toISOString().slice(0, 10).replaceAll('-', '.');

/** An extension of own files only: nothing is asked of an upstream, and the version is a date. */
async function planOwn(request: NewRequest, own: readonly ScaffoldFile[], ask: Prompter): Promise<Plan> {
  const { name, version = today(), unit } = request;
  if (!PLAIN_VERSION.test(version))
    throw new UserError(`'${version}' is no version to ship`, { next: `own files have a date: --version ${today()}` });
  const summary = request.summary ?? (await ask.text('What is it, in one line?', '--summary'));
  const folder = 'usr/lib/systemd/system';
  const shipped = own.find(({ path }) => path === `${folder}/${unit?.exec ?? ''}`);
  const { data: _, ...service } =
    shipped === undefined
      ? unitOf(request, summary, undefined, ask)
      : { data: [], unit: { name: basename(shipped.path), text: shipped.text }, machine: { active: [basename(shipped.path)] } };
  const first = { path: `usr/share/${name}/README`, text: `${summary}\n` };
  const files = own.length > 0 || unit !== undefined ? [] : [first];
  if (files.length > 0)
    ask.note(
      `put what the image ships below files/, as it is in the image (usr/bin, usr/lib/systemd/system); ${first.path} holds the place`,
    );
  return {
    name,
    version,
    track: 'newest',
    programs: own.flatMap(({ path }) => /^usr\/bin\/([^/]+)$/.exec(path)?.[1] ?? []),
    summary,
    license: '',
    own: [...own, ...files].map(({ path }) => path),
    ...service,
    ...(files.length === 0 ? {} : { files }),
  };
}

/** Finds out, proposes and asks for everything that a new extension is written from. Writes nothing. */
export async function planNew(request: NewRequest, ask: Prompter, context: UpstreamContext): Promise<Plan> {
  const { name, github, go, cargo, debian } = request;
  if (request.own !== undefined) return planOwn(request, request.own, ask);
  const listing = await listingOf(request, context);
  const dated = await isDated(request, ask, context);
  const version = await newestOf(request, listing, dated, context);
  const prefix = request.tagPrefix ?? (listing === undefined ? 'v' : splitTag(listing.tag_name).prefix);
  const found = await fileOf(request, listing, version, prefix, ask, context);
  if (found === undefined && go === undefined && cargo === undefined && debian === undefined)
    throw new UserError('nothing says where the files come from', {
      next: 'say --github, --url, --go, --cargo or --debian, or --files for files of this repository only',
    });
  const source: Source | undefined =
    go !== undefined
      ? await inspectGo(go, version, context)
      : cargo !== undefined
        ? await inspectCargo(cargo, version, context)
        : undefined;

  const packaged = debian === undefined ? undefined : await inspectDebian(debian, request.suite, context);

  const candidates = found?.programs ?? source?.programs ?? packaged?.programs ?? [];
  const ofUnit =
    packaged !== undefined && request.unit?.exec.endsWith('.service') === true
      ? programsOfUnit(packaged, serviceOf(packaged, request.unit.exec))
      : [];
  const proposed = candidates.length === 0 ? [name] : [...new Set([...pick(candidates, name, debian), ...ofUnit])];
  // Packages often have more programs than an image is for.
  const chosen =
    request.programs ??
    (packaged === undefined || packaged.programs.length < 2
      ? proposed
      : (await ask.text(`Which programs, of ${packaged.programs.join(', ')}?`, '--program', proposed.join(' '))).split(/[\s,]+/).filter(Boolean)); // prettier-ignore
  const programs = [...new Set([...chosen, ...ofUnit])];
  if (packaged !== undefined) {
    assertPrograms(packaged, programs);
    assertLead(packaged, debian ?? [], programs);
  }
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
  const license =
    packaged !== undefined
      ? await licenseOfPackages(request, packaged, ask)
      : (request.license ?? (await ask.text('Its licence, as SPDX?', '--license', licenseFound, wrongLicense)));
  const { data, ...service } = unitOf(request, summary, packaged, ask);
  if (packaged !== undefined) tellOf({ programs, ...service }, packaged, ask);
  const origin =
    debian === undefined
      ? undefined
      : await originOf(
          { packages: debian, suite: request.suite, programs, data, name, version: packaged?.versions.get(programs[0] ?? '') ?? version },
          ask,
          context,
        );
  return {
    name,
    version,
    track: request.track,
    programs,
    summary,
    license,
    ...(github === undefined ? {} : { github: { repo: github, tagPrefix: prefix } }),
    ...(found === undefined ? {} : { file: found.file }),
    ...(go === undefined ? {} : { go: { module: go, packages, stamps: request.stamps ?? source?.stamps ?? {}, tags: request.tags ?? [] } }),
    ...(cargo === undefined ? {} : { cargo: { crate: cargo, features: request.features ?? [] } }),
    ...(debian === undefined || origin === undefined
      ? {}
      : {
          debian: {
            packages: debian,
            suite: request.suite,
            dated,
            ...origin,
            versions: Object.fromEntries(
              programs.flatMap((program) => {
                const own = packaged?.versions.get(program);
                return own === undefined || own === version ? [] : [[program, own]];
              }),
            ),
          },
        }),
    ...service,
  };
}
