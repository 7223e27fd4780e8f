import { isUnanswered, keep, locationOf, newestFirst, PLAIN_VERSION, UserError, type VersionSource } from '@flatcar/core/engine';
import { memoize, type UpstreamContext } from '../context.ts';
import { crateVersions } from './cargo.ts';
import { debianVersions } from './debian.ts';
import { githubTags } from './github.ts';
import { gitlabVersions } from './gitlab.ts';
import { goDate, goVersions } from './go.ts';
import { versionsInTags, type Listed } from './tags.ts';
import { jsonVersions, kubernetesVersions, pageVersions } from './web-lists.ts';

function list(source: VersionSource, context: UpstreamContext): Promise<readonly Listed[]> {
  switch (source.kind) {
    case 'github':
      return githubTags(source.repo, source.tagPrefix ?? 'v', context).then((tags) => versionsInTags(tags, source.tagPrefix));
    case 'gitlab':
      return gitlabVersions(source, context);
    case 'kubernetes':
      return kubernetesVersions(source, context);
    case 'page':
      return pageVersions(source, context);
    case 'go':
      return goVersions(source, context);
    case 'crates':
      return crateVersions(source.crate, context);
    case 'debian':
      return debianVersions(source, context);
    case 'json':
      return jsonVersions(source, context);
    case 'date':
      return Promise.resolve([]);
  }
}

async function listAll(source: VersionSource, context: UpstreamContext): Promise<readonly Listed[]> {
  return memoize(
    context,
    `versions ${JSON.stringify({ ...source, track: source.kind === 'kubernetes' ? source.track : '' })}`,
    async () => {
      const all = await list(source, context);
      if (!all.some(({ version }) => /^\d/.test(version)) && source.kind !== 'date')
        throw new UserError('upstream lists no version', {
          where: `${source.kind} ${locationOf(source)}`,
          next: 'check the version source (`tagPrefix`) in the definition',
        });
      return all.filter(({ version }) => PLAIN_VERSION.test(version));
    },
  );
}

/**
 * All versions that upstream offers, newest first, without pre-releases; none if there are only pre-releases, or for `date`. Throws a UserError if
 * upstream reports an error, or if no version has the tag prefix.
 */
export async function listVersions(source: VersionSource, context: UpstreamContext): Promise<string[]> {
  return newestFirst([...new Set((await listAll(source, context)).map(({ version }) => version))]);
}

/** Sources that list every version that can be pinned. */
const COMPLETE: ReadonlySet<VersionSource['kind']> = new Set(['github', 'gitlab', 'page', 'go', 'crates', 'debian']);

/**
 * Throws a UserError if upstream does not offer a given version, before anything is built or downloaded. Does nothing if upstream does not
 * answer, or only lists some versions. `next` is the next step, by the newest version.
 */
export async function assertOffered(
  source: VersionSource,
  version: string,
  about: { readonly name: string; readonly next: (newest: string) => string },
  context: UpstreamContext,
): Promise<void> {
  if (!COMPLETE.has(source.kind)) return;
  const versions = await listVersions(source, context).catch((error: unknown) => {
    if (isUnanswered(error)) return undefined;
    throw error;
  });
  const [newest] = versions ?? [];
  if (versions === undefined || newest === undefined || versions.includes(version)) return;
  throw new UserError(`${about.name} has no ${version}; the newest is ${newest}`, {
    where: `${source.kind} ${locationOf(source)}`,
    next: about.next(newest),
  });
}

/**
 * The newest major version of a Go module with a path of its own (Go Modules Reference, Major version suffixes): `helm.sh/helm` ends with 2.17.0,
 * and `helm.sh/helm/v4` continues it. Undefined if there is none after `newest`.
 */
export async function newerMajor(
  module: string,
  newest: string,
  context: UpstreamContext,
): Promise<{ module: string; version: string } | undefined> {
  const [, base = module, own = '1'] = /^(.*)\/v(\d+)$/.exec(module) ?? [];
  let found: { module: string; version: string } | undefined;
  for (let major = Math.max(Number(own), Number(newest.split('.')[0])) + 1; ; major += 1) {
    const at = `${base}/v${major}`;
    const [version] = await listVersions({ kind: 'go', module: at, track: 'newest' }, context).catch((error: unknown) => {
      if (error instanceof UserError) return [];
      throw error;
    });
    if (version === undefined) return found;
    found = { module: at, version };
  }
}

/** When a version was published, as an ISO date; undefined if upstream does not list it. */
export async function releaseDate(source: VersionSource, version: string, context: UpstreamContext): Promise<string | undefined> {
  const found = (await listAll(source, context)).find((one) => one.version === version);
  const date = found?.date ?? (source.kind === 'go' ? await goDate(source.module, version, context) : undefined);
  return date === undefined || Number.isNaN(Date.parse(date)) ? undefined : new Date(date).toISOString().slice(0, 10);
}

/** The versions of a source that its policy tracks, newest first. */
export async function keptVersions(source: VersionSource, context: UpstreamContext, lead?: string): Promise<string[]> {
  return keep(source.track, await listVersions(source, context), lead);
}
