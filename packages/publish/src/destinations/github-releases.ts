import { createHash } from 'node:crypto';
import { envOf, fetchBlob, UserError, type Environment } from '@flatcar/core/engine';
import { githubApi, openGitHub } from '@flatcar/github';
import * as v from 'valibot';
import type { FileAbout } from '../tree/tree.ts';
import { TakenError, type Destination } from './destination.ts';

/** Where an image of the tree really is. */
interface Redirect {
  readonly url: string;
  readonly sha256: string;
}
const MAP = 'redirects/map.json';
/** What goes into releases: everything else is small, and is asked for as it is. */
const isAsset = (path: string): boolean => /\.(?:raw|gz)$/.test(path);
/** GitHub keeps no more assets in a release. */
const ASSETS = 1000;

const ReleaseSchema = v.object({
  id: v.number(),
  tag_name: v.string(),
  draft: v.boolean(),
  upload_url: v.string(),
  assets: v.array(v.object({ name: v.string(), digest: v.nullish(v.string()), browser_download_url: v.string() })),
});
type Release = v.InferOutput<typeof ReleaseSchema>;
const Asset = v.object({ digest: v.nullish(v.string()) });

/** For nginx: `map $uri $image { include redirects/nginx.conf; }`, and in the server `if ($image) { return 302 $image; }`. */
const nginxMap = (map: Readonly<Record<string, Redirect>>): string =>
  Object.entries(map)
    .map(([path, { url }]) => `/${path} ${url};\n`)
    .join('');

/**
 * Images as assets of a GitHub repository's releases; all else (sums, index, transfer files) goes to another place, such as a folder that
 * becomes Pages, with a map of redirects from the images' paths to the assets: systemd-sysupdate looks for images in the folder of their
 * sums, and follows redirects. Each publish is one release: a draft until all assets are there, for good from then on (immutable releases).
 */
export function githubDestination(
  inner: Destination,
  repository: string,
  env: Environment = process.env,
  signal?: AbortSignal,
): Destination {
  if (!/^[\w.-]+\/[\w.-]+$/.test(repository)) throw new UserError(`'${repository}' is no repository`, { next: 'write it as owner/name' });
  const token = envOf('GITHUB_TOKEN', env);
  if (!token) throw new UserError('no token for GitHub', { where: repository, next: 'set GITHUB_TOKEN to one with contents: write' });
  const github = openGitHub({ api: githubApi(env), token, signal });
  const where = `github:${repository} and ${inner.where}`;
  /** Files of the publish under way, by path. */
  const waiting = new Map<string, FileAbout & { file: string }>();

  async function readMap(): Promise<Record<string, Redirect>> {
    const bytes = await inner.read(MAP);
    return bytes === undefined ? {} : (JSON.parse(bytes.toString()) as Record<string, Redirect>);
  }

  /** Releases of a tag; drafts are found in the list only. */
  async function releasesOf(tag: string): Promise<Release[]> {
    const found: Release[] = [];
    for (let page = 1; ; page += 1) {
      const some = await github.get(`/repos/${repository}/releases?per_page=100&page=${page}`, v.array(ReleaseSchema));
      found.push(...some.filter((one) => one.tag_name === tag));
      // Ours is among the newest or it is not there.
      if (some.length < 100 || found.length > 0 || page === 3) return found;
    }
  }

  /** One release with these files as assets, named by their digests: the official layout's images are those of the folders. */
  async function release(files: ReadonlyMap<string, FileAbout & { file: string }>): Promise<Release> {
    const nameOf = (path: string): string => path.split('/').join('_');
    const list = [...files].map(([path, { sha256 }]) => `${sha256} ${path}`).toSorted().join('\n'); // prettier-ignore
    // Decided by what is in it: a publish that died after it finds it again.
    const tag = `images-${createHash('sha256').update(list).digest('hex').slice(0, 16)}`;
    for (const there of await releasesOf(tag)) {
      if (!there.draft) return there;
      await github.send('DELETE', `/repos/${repository}/releases/${there.id}`, v.unknown());
    }
    const draft = await github.send('POST', `/repos/${repository}/releases`, ReleaseSchema, {
      tag_name: tag,
      name: tag,
      draft: true,
      body: `${files.size} images; use them through the published tree`,
    });
    for (const [path, { file, size, sha256 }] of files) {
      const asset = await github.upload(draft.upload_url, { name: nameOf(path), file, size }, Asset);
      if (asset.digest != null && asset.digest !== `sha256:${sha256}`)
        throw new UserError('GitHub has received other bytes than were sent', { where: path, next: 'run publish again' });
    }
    return github.send('PATCH', `/repos/${repository}/releases/${draft.id}`, ReleaseSchema, { draft: false });
  }

  return {
    where,
    locks: inner.locks,
    publish: (fn) =>
      inner.publish((staging) => {
        waiting.clear();
        return fn(staging);
      }),
    read: (path) => inner.read(path),
    ...(inner.isNew === undefined ? {} : { isNew: inner.isNew }),
    ...(inner.openToOthers === undefined ? {} : { openToOthers: inner.openToOthers }),
    async put(path, file, about) {
      if (!isAsset(path)) return inner.put(path, file, about);
      const there = (await readMap())[path];
      if (there !== undefined && there.sha256 !== about.sha256) throw new TakenError(there.url, path);
      if (there === undefined) waiting.set(path, { ...about, file });
    },
    async putOver(path, file, about) {
      if (!isAsset(path)) return inner.putOver(path, file, about);
      waiting.set(path, { ...about, file });
    },
    async flush() {
      if (waiting.size === 0) return;
      const map = await readMap();
      // The same bytes under two paths are one asset.
      const byDigest = new Map([...waiting].toReversed().map(([path, one]) => [one.sha256, path])); // prettier-ignore
      const known = new Map(Object.values(map).map((one) => [one.sha256, one.url]));
      const fresh = [...waiting].filter(([path, { sha256 }]) => !known.has(sha256) && byDigest.get(sha256) === path);
      for (let at = 0; at < fresh.length; at += ASSETS) {
        const files = new Map(fresh.slice(at, at + ASSETS));
        const made = await release(files);
        for (const [path, { sha256 }] of files) {
          const name = path.split('/').join('_');
          const asset = made.assets.find((one) => one.name === name);
          if (asset === undefined)
            throw new UserError('the release lacks an asset that was sent', { where: `${repository} ${made.tag_name}: ${name}` });
          known.set(sha256, asset.browser_download_url);
        }
      }
      for (const [path, { sha256 }] of waiting) map[path] = { url: known.get(sha256) ?? '', sha256 };
      const sorted = Object.fromEntries(Object.entries(map).toSorted(([a], [b]) => (a < b ? -1 : 1)));
      const files = new Map([['nginx.conf', Buffer.from(nginxMap(sorted))], ['map.json', Buffer.from(`${JSON.stringify(sorted, undefined, 1)}\n`)]]); // prettier-ignore
      await inner.replace('redirects', files);
      waiting.clear();
    },
    replace: (folder, files) => inner.replace(folder, files),
    remove: (paths) => inner.remove(paths),
    tree: (store, report) => ({
      where,
      read: (path) => inner.read(path),
      async file(path, { size, sha256 }) {
        const there = isAsset(path) ? (await readMap())[path] : undefined;
        if (there === undefined) return inner.tree(store, report).file(path, { size, sha256 });
        return fetchBlob(store, { url: there.url, sha256, size }, { report, signal });
      },
    }),
  };
}
