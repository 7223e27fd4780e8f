import { UserError } from '@flatcar/core';
import * as v from 'valibot';
import { once, type UpstreamContext } from './context.ts';
import { askJson, askText, nextPage } from './http.ts';

/** GitHub's API, or what GitHub's own runners name instead. */
const api = (): string => (process.env['GITHUB_API_URL'] || 'https://api.github.com').replace(/\/+$/, '');

/** A token goes to the API itself, never to a mirror. */
function headers(context: UpstreamContext): Record<string, string> {
  const token = process.env['GITHUB_TOKEN'] || process.env['GH_TOKEN'];
  return {
    accept: 'application/vnd.github+json',
    'x-github-api-version': '2022-11-28',
    ...(token === undefined || token === '' || context.mirror !== undefined ? {} : { authorization: `Bearer ${token}` }),
  };
}

/** Checks the shape of an answer. */
export function shaped<T extends v.GenericSchema>(schema: T, json: unknown, url: string): v.InferOutput<T> {
  const parsed = v.safeParse(schema, json);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw new UserError(`the answer has not the expected shape: ${v.getDotPath(issue) ?? ''} ${issue.message}`, {
    where: url,
    next: 'check the version source in the definition',
  });
}

/** All pages of a list. */
export async function askPages<T extends v.GenericSchema>(
  first: string,
  item: T,
  context: UpstreamContext,
  requestHeaders: Readonly<Record<string, string>>,
): Promise<v.InferOutput<T>[]> {
  const found: v.InferOutput<T>[] = [];
  const { origin } = new URL(first);
  for (let url: string | undefined = first, page = 1; url !== undefined; page += 1) {
    if (page > 100) throw new UserError('the list does not end', { where: first, next: 'narrow the version source in the definition' });
    const { json, headers: answered } = await askJson(url, { ...context, headers: requestHeaders });
    found.push(...shaped(v.array(item), json, url));
    const next = nextPage(answered);
    // A link may name the host behind a mirror, but the token must not follow it anywhere else.
    if (next !== undefined && new URL(next, url).origin !== origin)
      throw new UserError('the list goes on at another host', { where: next, next: 'check what stands between (a proxy, a mirror)' });
    url = next === undefined ? undefined : new URL(next, url).href;
  }
  return found;
}

const Release = v.object({
  tag_name: v.string(),
  draft: v.boolean(),
  prerelease: v.boolean(),
  published_at: v.nullish(v.string()),
});
const Ref = v.object({ ref: v.string() });

/** A tag, and when it was published, where that is known. */
export interface Tag {
  readonly name: string;
  /** As upstream writes it, ISO 8601. */
  readonly date?: string;
}

export const tagOf = (name: string, date: string | null | undefined): Tag => ({
  name,
  ...(date === undefined || date === null ? {} : { date }),
});

/** Tags of all published releases of a project; of all its tags when it makes no releases. */
export async function githubTags(repo: string, prefix: string, context: UpstreamContext): Promise<Tag[]> {
  const releases = await askPages(`${api()}/repos/${repo}/releases?per_page=100`, Release, context, headers(context));
  if (releases.length > 0)
    return releases.filter(({ draft, prerelease }) => !draft && !prerelease).map((one) => tagOf(one.tag_name, one.published_at));
  const refs = await askPages(
    `${api()}/repos/${repo}/git/matching-refs/tags/${prefix.split('/').map(encodeURIComponent).join('/')}?per_page=100`,
    Ref,
    context,
    headers(context),
  );
  return refs.map(({ ref }) => tagOf(ref.replace(/^refs\/tags\//, ''), undefined));
}

/** Owner, project, tag and name in the URL of a release asset. */
function assetOf(url: string): { repo: string; tag: string; name: string } {
  const [, owner, project, releases, download, ...rest] = new URL(url).pathname.split('/').map(decodeURIComponent);
  const name = rest.at(-1);
  if (releases !== 'releases' || download !== 'download' || name === undefined || rest.length < 2)
    throw new UserError("only GitHub's release assets have a digest at GitHub", {
      where: url,
      next: 'correct `checksum` in the definition',
    });
  return { repo: `${owner}/${project}`, tag: rest.slice(0, -1).join('/'), name };
}

const Assets = v.object({ assets: v.array(v.object({ name: v.string(), digest: v.nullish(v.string()) })) });

/** The sha256 that GitHub has for a release asset (of those uploaded since June 2025). */
export async function assetDigest(fileUrl: string, context: UpstreamContext): Promise<string> {
  const { repo, tag, name } = assetOf(fileUrl);
  const url = `${api()}/repos/${repo}/releases/tags/${encodeURIComponent(tag)}`;
  const { assets } = await once(context, url, async () =>
    shaped(Assets, (await askJson(url, { ...context, headers: headers(context) })).json, url),
  );
  const found = assets.filter((asset) => asset.name === name);
  const [asset] = found;
  if (asset === undefined || found.length > 1) {
    throw new UserError(asset === undefined ? `release ${tag} has no asset ${name}` : `release ${tag} has ${found.length} assets ${name}`, {
      where: url,
      next: `it has ${assets
        .slice(0, 20)
        .map((one) => one.name)
        .join(', ')}`,
    });
  }
  const hash = /^sha256:([0-9a-f]{64})$/.exec(asset.digest ?? '')?.[1];
  if (hash === undefined)
    throw new UserError(`GitHub has no digest of ${name}`, {
      where: url,
      next: "it is older than these are: write checksum: 'none', or name what upstream publishes",
    });
  return hash;
}

const Attestations = v.object({ attestations: v.array(v.object({ bundle: v.unknown() })) });

/** The attestations that GitHub keeps for a file, one bundle a line. */
export async function attestationsOf(fileUrl: string, sha256: string, context: UpstreamContext): Promise<string> {
  const url = `${api()}/repos/${assetOf(fileUrl).repo}/attestations/sha256:${sha256}`;
  const { json } = await askJson(url, { ...context, headers: headers(context) });
  const { attestations } = shaped(Attestations, json, url);
  if (attestations.length === 0) throw new UserError('GitHub has no attestation of this file', { where: url });
  return attestations.map(({ bundle }) => JSON.stringify(bundle)).join('\n');
}

/** A release as the API has it: the newest, or that of a tag. Its shape is checked by readListing. */
export async function releaseOf(repo: string, tag: string | undefined, context: UpstreamContext): Promise<string> {
  const which = tag === undefined ? 'latest' : `tags/${encodeURIComponent(tag)}`;
  return askText(`${api()}/repos/${repo}/releases/${which}`, { ...context, headers: headers(context) });
}

const Repository = v.object({ description: v.nullish(v.string()) });

/** What a project says of itself in a line. */
export async function descriptionOf(repo: string, context: UpstreamContext): Promise<string | undefined> {
  const url = `${api()}/repos/${repo}`;
  const { json } = await askJson(url, { ...context, headers: headers(context) });
  return shaped(Repository, json, url).description ?? undefined;
}

const License = v.object({ license: v.object({ spdx_id: v.string() }) });

/** SPDX id of a project's licence; undefined where GitHub does not recognise it. */
export async function licenseOf(repo: string, context: UpstreamContext): Promise<string | undefined> {
  const url = `${api()}/repos/${repo}/license`;
  const { json } = await askJson(url, { ...context, headers: headers(context) });
  const { spdx_id: id } = shaped(License, json, url).license;
  return id === 'NOASSERTION' ? undefined : id;
}
