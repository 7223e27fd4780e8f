import { locationOf, PLAIN_VERSION, UserError, type VersionSource } from '@flatcar/core/engine';
import { assertOffered, debianVersion, listVersions, newerMajor, type UpstreamContext } from '@flatcar/upstream';
import type { Prompter } from './prompter.ts';
import { splitTag, type Listing } from './propose-assets.ts';
import type { CargoRequest, GoRequest, PackagesRequest, UpstreamRequest } from './request.ts';

/** Today, as the version of a dated extension. */
export const today = (): string => new Date().toISOString().slice(0, 10).replaceAll('-', '.');

const DATE = /^20\d\d\.\d{1,2}\.\d{1,2}$/;

const sourceOf = (source: GoRequest | CargoRequest): VersionSource =>
  source.kind === 'go' ? { kind: 'go', module: source.module, track: 'newest' } : { kind: 'crates', crate: source.crate, track: 'newest' };

/** Throws a UserError if a given version is not valid, or if the source does not offer it. */
async function checkGiven(version: string, source: VersionSource | undefined, context: UpstreamContext): Promise<string> {
  if (!PLAIN_VERSION.test(version))
    throw new UserError(`'${version}' is not a valid version`, { next: 'write it without v; pre-releases are not shipped' });
  if (source !== undefined)
    await assertOffered(source, version, { name: locationOf(source), next: (newest) => `pass --version ${newest}` }, context);
  return version;
}

/** The given version, else the newest that upstream publishes. */
export async function upstreamVersionOf(
  { version, source, github, tagPrefix }: UpstreamRequest,
  listing: Listing | undefined,
  context: UpstreamContext,
): Promise<string> {
  const compiled = source === undefined ? undefined : sourceOf(source);
  if (version !== undefined) return checkGiven(version, compiled, context);
  if (listing !== undefined) return splitTag(listing.tag_name).version;
  const listed: VersionSource | undefined =
    compiled ?? (github === undefined ? undefined : { kind: 'github', repo: github, track: 'newest', tagPrefix });
  if (listed === undefined) throw new UserError('the version is unknown', { next: 'pass --version' });
  const [newest] = await listVersions(listed, context);
  if (newest === undefined) throw new UserError('upstream lists no version', { where: locationOf(listed), next: 'pass --version' });
  const next = source?.kind === 'go' ? await newerMajor(source.module, newest, context) : undefined;
  if (next !== undefined)
    throw new UserError(`${locationOf(listed)} ends with ${newest}, and ${next.module} has ${next.version}`, {
      where: locationOf(listed),
      next: `pass --go ${next.module}, or --version ${newest} for the old major version`,
    });
  return newest;
}

/**
 * The version of an extension of packages: that of the first package, or a date if `isDated`. An extension is dated if an image cannot have the
 * package's version (systemd ranks `3.5a` before 3.5), or if the request asks for a date.
 */
export async function packagesVersionOf(
  { packages: [lead = ''], suite, version }: PackagesRequest,
  prompter: Prompter,
  context: UpstreamContext,
): Promise<{ readonly version: string; readonly isDated: boolean }> {
  const at = `${suite}/main/${lead}`;
  const actual = await debianVersion(at, context);
  const isPlain = PLAIN_VERSION.test(actual);
  if (!isPlain) prompter.note(`${lead} is version ${actual}, but the version of an image has digits and dots only: the extension is dated`);
  if (!isPlain && (version === undefined || DATE.test(version))) return { version: version ?? today(), isDated: true };
  if (version !== undefined && version !== actual && DATE.test(version)) return { version, isDated: true };
  return { version: await checkGiven(version ?? actual, { kind: 'debian', package: at, track: 'newest' }, context), isDated: false };
}
