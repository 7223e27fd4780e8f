import { join } from 'node:path';
import {
  checkShape,
  exec,
  getJson,
  getPages,
  getText,
  httpGet,
  isUnanswered,
  keep,
  networkEnv,
  newestFirst,
  parseJson,
  PLAIN_VERSION,
  upstreamVersion,
  plainGoError,
  UserError,
  type HttpResponse,
  type VersionSource,
  userGoEnv,
  locationOf,
  type RepositoryVersions,
  type UrlVersions,
  type ModuleVersions,
  type PackageVersions,
} from '@flatcar/core/engine';
import * as v from 'valibot';
import { memoize, MOST_DOCUMENT, MOST_LISTING, newestPackages, type UpstreamContext } from '../context.ts';
import { crateVersions } from './cargo.ts';
import { githubTags } from './github.ts';
import { readLinks } from './links.ts';
import { versionsInTags, type Listed } from './tags.ts';

const MACHINES = ['x86_64', 'aarch64'];

const versionsInNames = (names: readonly string[], prefix = 'v'): Listed[] =>
  versionsInTags(
    names.map((name) => ({ name })),
    prefix,
  );

const GitlabRelease = v.object({
  tag_name: v.string(),
  upcoming_release: v.optional(v.boolean(), false),
  released_at: v.nullish(v.string()),
});

/** `group/project` at gitlab.com, or a URL of a project elsewhere. */
async function gitlab({ repo, tagPrefix }: RepositoryVersions, context: UpstreamContext): Promise<Listed[]> {
  const { origin, pathname } = new URL(repo, 'https://gitlab.com/');
  const token = process.env['GITLAB_TOKEN'] || undefined;
  // A definition may name any host; the token is for the one of its owner (GITLAB_HOST, as GitLab's own command line has it).
  const own = process.env['GITLAB_HOST'] || 'gitlab.com';
  const isOwn = context.mirror === undefined && origin === new URL(own.includes('://') ? own : `https://${own}`).origin;
  const headers: Record<string, string> = token !== undefined && isOwn ? { authorization: `Bearer ${token}` } : {};
  const project = `${origin}/api/v4/projects/${encodeURIComponent(pathname.replaceAll(/^\/|\/$/g, ''))}`;
  const whenLimited = 'set GITLAB_TOKEN, or try again then';
  const get = (url: string): Promise<HttpResponse> => httpGet(url, { ...context, headers, whenLimited, max: MOST_LISTING });
  const releases = await getPages(`${project}/releases?per_page=100`, GitlabRelease, get);
  if (releases.length > 0) {
    const published = releases.filter((one) => !one.upcoming_release);
    return versionsInTags(
      published.map((one) => ({ name: one.tag_name, date: one.released_at ?? undefined })),
      tagPrefix,
    );
  }
  const tags = await getPages(`${project}/repository/tags?per_page=100`, v.object({ name: v.string() }), get);
  return versionsInTags(tags, tagPrefix);
}

/** Kubernetes' channels: `stable.txt` names the newest version, `stable-1.36.txt` the newest of a minor. */
async function kubernetes({ url: at, track: policy }: UrlVersions, context: UpstreamContext): Promise<Listed[]> {
  const channel = async (name: string): Promise<Listed> => {
    const url = `${at}/${name}.txt`;
    const { bytes, headers } = await httpGet(url, { ...context, max: MOST_DOCUMENT });
    const text = bytes.toString('utf8').trim();
    const version = /^v(\d+\.\d+\.\d+)$/.exec(text)?.[1];
    if (version === undefined)
      throw new UserError(`the channel names no version: '${text.slice(0, 40)}'`, { where: url, next: 'check the URL in the definition' });
    const changed = headers['last-modified'];
    const date = typeof changed === 'string' && !Number.isNaN(Date.parse(changed)) ? new Date(changed).toISOString() : undefined;
    return { version, date };
  };
  const newest = await channel('stable');
  const [major = '', minor = ''] = newest.version.split('.');
  const count = Number(/^(\d+) minors$/.exec(policy)?.[1] ?? 1);
  const older = Array.from({ length: count - 1 }, (_, index) => Number(minor) - 1 - index).filter((one) => one >= 0);
  return [newest, ...(await Promise.all(older.map((one) => channel(`stable-${major}.${one}`))))];
}

/** Links of an index page such as `docker-29.8.2.tgz`; `{machine}` in the URL stands for both, and only what both have counts. */
async function page({ url: at, tagPrefix = 'v' }: UrlVersions, context: UpstreamContext): Promise<Listed[]> {
  const urls = at.includes('{machine}') ? MACHINES.map((machine) => at.replaceAll('{machine}', machine)) : [at];
  const lists = await Promise.all(
    urls.map(async (url) => {
      const links = readLinks(await getText(url, { ...context, max: MOST_LISTING }));
      if (links.length === 0) throw new UserError('the page has no links', { where: url, next: 'check the URL in the definition' });
      const named = versionsInTags(links, tagPrefix);
      return named.map(({ version, date }) => ({ version: version.replace(/\.(?:tgz|zip|tar(?:\.\w+)?|tar\.zstd)$/, ''), date }));
    }),
  );
  return (lists[0] ?? []).filter(({ version }) => lists.every((list) => list.some((one) => one.version === version)));
}

/** What `go list -m -json` prints of a module. */
const GoModuleSchema = v.object({
  Version: v.optional(v.string()),
  Versions: v.optional(v.array(v.string())),
  Time: v.optional(v.string()),
});
type GoModule = v.InferOutput<typeof GoModuleSchema>;

/** Asks about a module at a version (`latest` for the list). */
async function goList(query: string, args: readonly string[], { store, tools, signal }: UpstreamContext): Promise<GoModule> {
  const output = await exec(await tools.bootstrapGo(), ['list', '-m', ...args, '-json', query], {
    cwd: '/',
    env: {
      ...networkEnv(),
      ...userGoEnv(),
      GOMODCACHE: join(store.root, 'go', 'mod'),
    },
    next: 'check the module in the definition, and the proxy (GOPROXY)',
    signal,
  }).catch((error: unknown) => {
    throw plainGoError(error, query);
  });
  return parseJson(GoModuleSchema, output, { what: 'output of go list', where: query });
}

/** A module's tags, from the proxy that the user's Go is configured for. */
async function goModule({ module: at }: ModuleVersions, context: UpstreamContext): Promise<Listed[]> {
  const { Version, Versions = [] } = await goList(`${at}@latest`, ['-versions'], context);
  const tags = [...Versions, ...(Version === undefined ? [] : [Version])];
  return versionsInNames(tags).map(({ version }) => ({ version: version.replace(/\+incompatible$/, '') }));
}

/**
 * `trixie/main/tini`: upstream's version of the package that is pinned today, which is the newest of the suite, its updates and its
 * security updates (`Archive.newest`).
 */
/** Upstream's version of a package of Debian's main archive, `suite/main/package`. Throws where there is none. */
export async function debianVersion(at: string, context: UpstreamContext): Promise<string> {
  const [suite, component, name, ...more] = at.split('/');
  if (suite === undefined || component !== 'main' || name === undefined || more.length > 0)
    throw new UserError('a Debian version source is suite/main/package', { where: at, next: 'such as trixie/main/tini' });
  const { packages } = await newestPackages(suite, 'x86-64', context);
  const found = packages.find((one) => one.name === name);
  if (found === undefined)
    throw new UserError(`${suite} has no package ${name}`, {
      where: at,
      next: 'check the name: apt-cache search, or https://packages.debian.org',
    });
  return upstreamVersion(found.version);
}

async function debian({ package: at }: PackageVersions, context: UpstreamContext): Promise<Listed[]> {
  const version = await debianVersion(at, context);
  const [suite = '', , name = ''] = at.split('/');
  if (!PLAIN_VERSION.test(version))
    throw new UserError(`${suite} has ${name} ${version}, which is not a version of digits and dots`, {
      where: at,
      next: "systemd ranks letters as earlier than a release: date the extension (versions: { kind: 'date', track: 'newest' })",
    });
  return [{ version }];
}

/**
 * A JSON document and, behind `#`, the keys down to what has the versions: the keys of an object (`…/index.json#versions`, as
 * HashiCorp has them), a list of texts or of objects with `version`, or one text.
 */
async function json({ url: at, tagPrefix = '' }: UrlVersions, context: UpstreamContext): Promise<Listed[]> {
  const [url = '', path = ''] = at.split('#');
  const Value = v.union([v.string(), v.array(v.union([v.string(), v.object({ version: v.string() })])), v.record(v.string(), v.unknown())]);
  let value = (await getJson(url, { ...context, max: MOST_LISTING })).json;
  for (const key of path.split('.').filter((one) => one !== '')) value = (value as Record<string, unknown> | null)?.[key];
  const found = checkShape(Value, value, at);
  if (typeof found === 'string') return versionsInNames([found], tagPrefix);
  const names = Array.isArray(found) ? found.map((one) => (typeof one === 'string' ? one : one.version)) : Object.keys(found);
  return versionsInNames(names, tagPrefix);
}

function list(source: VersionSource, context: UpstreamContext): Promise<readonly Listed[]> {
  switch (source.kind) {
    case 'github':
      return githubTags(source.repo, source.tagPrefix ?? 'v', context).then((tags) => versionsInTags(tags, source.tagPrefix));
    case 'gitlab':
      return gitlab(source, context);
    case 'kubernetes':
      return kubernetes(source, context);
    case 'page':
      return page(source, context);
    case 'go':
      return goModule(source, context);
    case 'crates':
      return crateVersions(source.crate, context);
    case 'debian':
      return debian(source, context);
    case 'json':
      return json(source, context);
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
 * All versions that upstream offers, newest first, pre-releases never: none where there are only those, and by `date`.
 * An error of upstream is an error, and so is a list in which nothing has the tag prefix.
 */
export async function listVersions(source: VersionSource, context: UpstreamContext): Promise<string[]> {
  return newestFirst([...new Set((await listAll(source, context)).map(({ version }) => version))]);
}

/** Sources that list every version that can be pinned. */
const COMPLETE: ReadonlySet<VersionSource['kind']> = new Set(['github', 'gitlab', 'page', 'go', 'crates', 'debian']);

/**
 * Throws where upstream does not offer a version that somebody named: before anything is built or downloaded. Where upstream cannot be asked,
 * or lists only some versions, nothing is known yet. `next` is what to do, by the newest version.
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
 * The newest major of a Go module that has a path of its own (Go Modules Reference, Major version suffixes): `helm.sh/helm` ends with 2.17.0,
 * and `helm.sh/helm/v4` goes on. Undefined where there is none behind `newest`.
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

/** When a version came out, as an ISO date; undefined where upstream's list does not say. */
export async function releaseDate(source: VersionSource, version: string, context: UpstreamContext): Promise<string | undefined> {
  const found = (await listAll(source, context)).find((one) => one.version === version);
  const date =
    found?.date ??
    (source.kind === 'go'
      ? (await memoize(context, `date ${source.module} ${version}`, () => goList(`${source.module}@v${version}`, [], context))).Time
      : undefined);
  return date === undefined || Number.isNaN(Date.parse(date)) ? undefined : new Date(date).toISOString().slice(0, 10);
}

/** The versions of a source that its policy keeps, newest first. */
export async function keptVersions(source: VersionSource, context: UpstreamContext, lead?: string): Promise<string[]> {
  return keep(source.track, await listVersions(source, context), lead);
}
