import { UserError } from '@flatcar/core/engine';
import { githubToken, openGitHub, type GitHubClient } from '@flatcar/github';
import * as v from 'valibot';
import { memoize, type HttpSettings, type UpstreamContext } from '../context.ts';
import type { Tag } from './tags.ts';

/** A client of GitHub's API with the token of the environment; a mirror never gets the token. */
export const githubOf = ({ mirror, signal, pause }: HttpSettings): GitHubClient =>
  openGitHub({ mirror, signal, pause, token: githubToken() });

const Release = v.object({
  tag_name: v.string(),
  draft: v.boolean(),
  prerelease: v.boolean(),
  published_at: v.nullish(v.string()),
});
const Ref = v.object({ ref: v.string() });

/** Tags of all published releases of a project; those of the repository that start with `prefix` if it has no releases. */
export async function githubTags(repo: string, prefix: string, context: UpstreamContext): Promise<Tag[]> {
  const github = githubOf(context);
  const releases = await github.pages(`/repos/${repo}/releases?per_page=100`, Release);
  if (releases.length > 0)
    return releases
      .filter(({ draft, prerelease }) => !draft && !prerelease)
      .map((one) => ({ name: one.tag_name, date: one.published_at ?? undefined }));
  const path = prefix.split('/').map(encodeURIComponent).join('/');
  const refs = await github.pages(`/repos/${repo}/git/matching-refs/tags/${path}?per_page=100`, Ref);
  return refs.map(({ ref }) => ({ name: ref.replace(/^refs\/tags\//, '') }));
}

/** Repository, tag and file name in the URL of a release asset. */
function assetOf(url: string): { repo: string; tag: string; name: string } {
  const [, owner, project, releases, download, ...rest] = new URL(url).pathname.split('/').map(decodeURIComponent);
  const name = rest.at(-1);
  if (releases !== 'releases' || download !== 'download' || name === undefined || rest.length < 2)
    throw new UserError('not the URL of a GitHub release asset: only those have a digest at GitHub', {
      where: url,
      next: 'correct `checksum` in the definition',
    });
  return { repo: `${owner}/${project}`, tag: rest.slice(0, -1).join('/'), name };
}

const Assets = v.object({ assets: v.array(v.object({ name: v.string(), digest: v.nullish(v.string()) })) });

/** The sha256 that GitHub publishes for a release asset; assets uploaded before June 2025 have none. */
export async function assetDigest(fileUrl: string, context: UpstreamContext): Promise<string> {
  const { repo, tag, name } = assetOf(fileUrl);
  const github = githubOf(context);
  const path = `/repos/${repo}/releases/tags/${encodeURIComponent(tag)}`;
  const url = `${github.api}${path}`;
  const { assets } = await memoize(context, url, () => github.get(path, Assets));
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
    throw new UserError(`GitHub publishes no digest for ${name}`, {
      where: url,
      next: "assets from before June 2025 have none: set checksum: 'none', or name a checksum file of upstream",
    });
  return hash;
}

const Attestations = v.object({ attestations: v.array(v.object({ bundle: v.unknown() })) });

/** The attestations that GitHub has for a file, one bundle per line. Throws a UserError (`no-attestation`) if there are none. */
export async function attestationsOf(fileUrl: string, sha256: string, context: UpstreamContext): Promise<string> {
  const { attestations } = await githubOf(context).get(`/repos/${assetOf(fileUrl).repo}/attestations/sha256:${sha256}`, Attestations);
  if (attestations.length === 0) throw new UserError('GitHub has no attestation for this file', { where: fileUrl, code: 'no-attestation' });
  return attestations.map(({ bundle }) => JSON.stringify(bundle)).join('\n');
}

/** A release as GitHub's API returns it: the newest, or that of a tag. `new` checks its shape. */
export async function releaseOf(repo: string, tag: string | undefined, context: UpstreamContext): Promise<string> {
  const which = tag === undefined ? 'latest' : `tags/${encodeURIComponent(tag)}`;
  return githubOf(context).text(`/repos/${repo}/releases/${which}`);
}

const Repository = v.object({ description: v.nullish(v.string()) });

/** The one-line description of a project. */
export async function descriptionOf(repo: string, context: UpstreamContext): Promise<string | undefined> {
  return (await githubOf(context).get(`/repos/${repo}`, Repository)).description ?? undefined;
}

const License = v.object({ license: v.object({ spdx_id: v.string() }) });

/** SPDX id of a project's licence; undefined if GitHub does not recognize it. */
export async function licenseOf(repo: string, context: UpstreamContext): Promise<string | undefined> {
  const { spdx_id: id } = (await githubOf(context).get(`/repos/${repo}/license`, License)).license;
  return id === 'NOASSERTION' ? undefined : id;
}
