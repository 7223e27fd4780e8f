import { isNetworkFailure, isUnanswered, UsageError, UserError } from '@flatcar/core/engine';
import { descriptionOf, licenseOf, releaseOf, type UpstreamContext } from '@flatcar/upstream';
import { inspectCargo, inspectGo, oneLine, type Source } from './inspect-source.ts';
import { upstreamVersionOf } from './new-version.ts';
import { planService } from './plan-service.ts';
import type { Plan } from './plan.ts';
import { invalidLicense, promptSummary, type Prompter } from './prompter.ts';
import { readListing, splitTag, type Listing } from './propose-assets.ts';
import type { GoRequest, UpstreamRequest } from './request.ts';
import { findFile } from './upstream-file.ts';

/** A value that is optional: undefined if upstream does not answer. */
async function optional<T>(value: Promise<T>): Promise<T | undefined> {
  return value.catch((error: unknown) => {
    if (isUnanswered(error)) return undefined;
    throw error;
  });
}

/** The files of the release; undefined if the request names the file, or if GitHub does not answer and there is source to compile. */
async function listingOf(request: UpstreamRequest, context: UpstreamContext): Promise<Listing | undefined> {
  const { github, listing, version, tagPrefix = 'v', file, source } = request;
  if (listing !== undefined) return readListing(listing.text, listing.where);
  if (github === undefined || file !== undefined) return undefined;
  const where = `https://github.com/${github}/releases`;
  const text = await releaseOf(github, version === undefined ? undefined : `${tagPrefix}${version}`, context).catch((error: unknown) => {
    if (!isNetworkFailure(error)) throw error;
    if (source !== undefined) return undefined;
    const next = 'save the answer of GitHub’s API elsewhere and pass it as --listing FILE, or pass --asset PATTERN and --version';
    throw new UserError(error.message, { where, next, cause: error });
  });
  return text === undefined ? undefined : readListing(text, where);
}

function inspectSource({ source }: UpstreamRequest, version: string, context: UpstreamContext): Promise<Source> | undefined {
  if (source === undefined) return undefined;
  return source.kind === 'go' ? inspectGo(source.module, version, context) : inspectCargo(source.crate, version, context);
}

/** Of several programs those with the name of the extension, if there are any, else all. */
function choosePrograms(programs: readonly string[], name: string): readonly string[] {
  const own = programs.filter((one) => one.replaceAll('_', '-') === name);
  if (own.length > 0) return own;
  return programs.length > 0 ? programs : [name];
}

/** The main package of each program, in the order of the programs. */
function mainPackagesOf({ module, packages }: GoRequest, programs: readonly string[], source: Source): readonly string[] {
  if (packages !== undefined) return packages;
  const found = programs.map((program) => {
    const index = source.programs.indexOf(program);
    return source.packages[index] ?? (source.packages.length === 1 ? source.packages[0] : undefined);
  });
  const absent = programs.filter((_, index) => found[index] === undefined);
  if (absent.length > 0)
    throw new UserError(`the module ${module} has no main package for ${absent.join(', ')}`, {
      next: `pass --package; main packages in the usual places: ${source.packages.join(', ') || 'none'}`,
    });
  return found.flatMap((one) => one ?? []);
}

/** A plan of an extension of upstream's own files, of source to compile, or of both. */
export async function planUpstream(request: UpstreamRequest, prompter: Prompter, context: UpstreamContext): Promise<Plan> {
  const { name, github, source, track, tagPrefix } = request;
  if ([github, request.listing, request.file, source].every((one) => one === undefined))
    throw new UsageError('no option specifies where the files come from', {
      next: 'pass --github, --url, --go, --cargo or --debian, or --files for files of this repository',
    });
  const listing = await listingOf(request, context);
  const version = await upstreamVersionOf(request, listing, context);
  const prefix = tagPrefix ?? (listing === undefined ? 'v' : splitTag(listing.tag_name).prefix);
  const file = await findFile(request, listing, { version, prefix }, prompter, context);
  const inspected = await inspectSource(request, version, context);
  const programs = request.programs ?? choosePrograms(file?.programs ?? inspected?.programs ?? [], name);
  const packages = source?.kind === 'go' && inspected !== undefined ? mainPackagesOf(source, programs, inspected) : [];
  const found = file?.license ?? inspected?.license;
  const known = request.license ?? found ?? (github === undefined ? undefined : await optional(licenseOf(github, context)));
  const described = inspected?.summary ?? (github === undefined ? undefined : await optional(descriptionOf(github, context)));
  const summary = await promptSummary(request, prompter, described === undefined ? undefined : oneLine(described));
  const license = request.license ?? (await prompter.text('Its licence, as SPDX?', '--license', known, invalidLicense));
  const { data: _data, ...service } = planService(request, summary, undefined, prompter);
  return {
    name,
    version,
    track,
    programs,
    summary,
    license,
    github: github === undefined ? undefined : { repo: github, tagPrefix: prefix },
    file: file?.file,
    go:
      source?.kind === 'go'
        ? { module: source.module, packages, stamps: source.stamps ?? inspected?.stamps ?? {}, tags: source.tags ?? [] }
        : undefined,
    cargo: source?.kind === 'cargo' ? { crate: source.crate, features: source.features ?? [] } : undefined,
    ...service,
  };
}
