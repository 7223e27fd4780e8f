import { getPages, httpGet, type HttpResponse, type RepositoryVersions } from '@flatcar/core/engine';
import * as v from 'valibot';
import { MOST_LISTING, type UpstreamContext } from '../context.ts';
import { versionsInTags, type Listed } from './tags.ts';

/** A release as GitLab's API returns it (Releases API). */
const GitlabRelease = v.object({
  tag_name: v.string(),
  upcoming_release: v.optional(v.boolean(), false),
  released_at: v.nullish(v.string()),
});

/** Versions in the releases of a project, else in its tags: `group/project` at gitlab.com, or the URL of a project elsewhere. */
export async function gitlabVersions({ repo, tagPrefix }: RepositoryVersions, context: UpstreamContext): Promise<Listed[]> {
  const { origin, pathname } = new URL(repo, 'https://gitlab.com/');
  const token = process.env['GITLAB_TOKEN'] || undefined;
  // A definition may name any host, but the token belongs to GITLAB_HOST (as in GitLab's own command line).
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
