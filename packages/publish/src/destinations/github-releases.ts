import { createHash } from 'node:crypto';
import { envOf, fetchBlob, parseJson, UserError, type Environment, type Report, type Store } from '@flatcar/core/engine';
import { githubApi, openGitHub, type GitHubClient } from '@flatcar/github';
import * as v from 'valibot';
import type { FileAbout, Tree } from '../tree/tree.ts';
import { TakenError, type Destination } from './destination.ts';

const MAP = 'redirects/map.json';
/** URL and digest of the asset behind each path of the tree. */
const RedirectsSchema = v.record(v.string(), v.object({ url: v.string(), sha256: v.string() }));
type Redirects = v.InferOutput<typeof RedirectsSchema>;
/** True for files that become assets; all other files are small and stay in the tree. */
const isAsset = (path: string): boolean => /\.(?:raw|gz)$/.test(path);
/** Limit of assets per release. */
const MOST_ASSETS = 1000;
/** Pages of the list of releases that are searched: a release of this publish is among the newest. */
const MOST_PAGES = 3;

const ReleaseSchema = v.object({
  id: v.number(),
  tag_name: v.string(),
  draft: v.boolean(),
  upload_url: v.string(),
  assets: v.array(v.object({ name: v.string(), digest: v.nullish(v.string()), browser_download_url: v.string() })),
});
type Release = v.InferOutput<typeof ReleaseSchema>;
const AssetSchema = v.object({ digest: v.nullish(v.string()) });

/** A staged file that waits to become an asset. */
type StagedAsset = FileAbout & { readonly file: string };
type StagedAssets = ReadonlyMap<string, StagedAsset>;

/** For nginx: `map $uri $image { include redirects/nginx.conf; }`, and in the server `if ($image) { return 302 $image; }`. */
const nginxMap = (redirects: Redirects): string =>
  Object.entries(redirects)
    .map(([path, { url }]) => `/${path} ${url};\n`)
    .join('');

const assetName = (path: string): string => path.split('/').join('_');

/** The tag of a release, derived from its content: a publish finds the release of a killed publish again. */
function tagOf(files: StagedAssets): string {
  const lines = [...files].map(([path, { sha256 }]) => `${sha256} ${path}`).toSorted();
  return `images-${createHash('sha256').update(lines.join('\n')).digest('hex').slice(0, 16)}`;
}

/** Releases of a repository that hold images. */
class AssetReleases {
  readonly #github: GitHubClient;
  readonly #path: string;

  constructor(github: GitHubClient, repository: string) {
    this.#github = github;
    this.#path = `/repos/${repository}/releases`;
  }

  /** Releases with a tag. Drafts are only in the list. */
  async #withTag(tag: string): Promise<Release[]> {
    const found: Release[] = [];
    for (let page = 1; ; page += 1) {
      const releases = await this.#github.get(`${this.#path}?per_page=100&page=${page}`, v.array(ReleaseSchema));
      found.push(...releases.filter((one) => one.tag_name === tag));
      if (releases.length < 100 || found.length > 0 || page === MOST_PAGES) return found;
    }
  }

  /** Publishes files as the assets of one release and returns their URLs by path. A published release with the same files is reused. */
  async publish(files: StagedAssets): Promise<Map<string, string>> {
    const tag = tagOf(files);
    const release = (await this.#published(tag)) ?? (await this.#create(tag, files));
    return new Map(
      [...files.keys()].map((path) => {
        const asset = release.assets.find(({ name }) => name === assetName(path));
        if (asset === undefined)
          throw new UserError('the release lacks an asset that was uploaded', { where: `${this.#path} ${tag}: ${assetName(path)}` });
        return [path, asset.browser_download_url];
      }),
    );
  }

  /** The published release of a tag. Deletes drafts of killed publishes. */
  async #published(tag: string): Promise<Release | undefined> {
    for (const release of await this.#withTag(tag)) {
      if (!release.draft) return release;
      await this.#github.send('DELETE', `${this.#path}/${release.id}`, v.unknown());
    }
    return undefined;
  }

  /** Creates a release as a draft, uploads its assets, and publishes it: from then on it is immutable. */
  async #create(tag: string, files: StagedAssets): Promise<Release> {
    const draft = await this.#github.send('POST', this.#path, ReleaseSchema, {
      tag_name: tag,
      name: tag,
      draft: true,
      body: `${files.size} images; use them through the published tree`,
    });
    for (const [path, { file, size, sha256 }] of files) {
      const asset = await this.#github.upload(draft.upload_url, { name: assetName(path), file, size }, AssetSchema);
      if (asset.digest != null && asset.digest !== `sha256:${sha256}`)
        throw new UserError('GitHub received other bytes than were sent', { where: path, next: 'run publish again' });
    }
    return this.#github.send('PATCH', `${this.#path}/${draft.id}`, ReleaseSchema, { draft: false });
  }
}

/** A tree whose images are assets of releases; see `githubDestination`. */
class GitHubDestination implements Destination {
  readonly where: string;
  readonly locks: boolean;
  readonly #inner: Destination;
  readonly #releases: AssetReleases;
  readonly #signal: AbortSignal | undefined;
  /** Assets of the current publish, by path. */
  readonly #staged = new Map<string, StagedAsset>();

  constructor(inner: Destination, repository: string, github: GitHubClient, signal: AbortSignal | undefined) {
    this.where = `github:${repository} and ${inner.where}`;
    this.locks = inner.locks;
    this.#inner = inner;
    this.#releases = new AssetReleases(github, repository);
    this.#signal = signal;
  }

  async #redirects(): Promise<Redirects> {
    const bytes = await this.#inner.read(MAP);
    if (bytes === undefined) return {};
    return parseJson(RedirectsSchema, bytes.toString(), { what: 'map of redirects', where: `${this.#inner.where}/${MAP}` });
  }

  async publish<T>(fn: (staging: string) => Promise<T>): Promise<T> {
    return this.#inner.publish((staging) => {
      this.#staged.clear();
      return fn(staging);
    });
  }

  async read(path: string, limit?: number): Promise<Buffer | undefined> {
    return this.#inner.read(path, limit);
  }

  async isNew(): Promise<boolean | undefined> {
    return this.#inner.isNew();
  }

  async openToOthers(extensions: readonly string[], report?: Report): Promise<void> {
    await this.#inner.openToOthers(extensions, report);
  }

  async put(path: string, file: string, about: FileAbout): Promise<void> {
    if (!isAsset(path)) return this.#inner.put(path, file, about);
    const published = (await this.#redirects())[path];
    if (published !== undefined && published.sha256 !== about.sha256) throw new TakenError(published.url, path);
    if (published === undefined) this.#staged.set(path, { ...about, file });
    return undefined;
  }

  async putOver(path: string, file: string, about: FileAbout): Promise<void> {
    if (!isAsset(path)) return this.#inner.putOver(path, file, about);
    this.#staged.set(path, { ...about, file });
    return undefined;
  }

  /** Publishes the staged assets, and redirects to them. Files with the same bytes share an asset. */
  async flush(): Promise<void> {
    await this.#inner.flush();
    if (this.#staged.size === 0) return;
    const redirects = await this.#redirects();
    const urls = new Map(Object.values(redirects).map(({ sha256, url }) => [sha256, url]));
    const firstPaths = new Map([...this.#staged].toReversed().map(([path, { sha256 }]) => [sha256, path]));
    const fresh = [...this.#staged].filter(([path, { sha256 }]) => !urls.has(sha256) && firstPaths.get(sha256) === path);
    for (let at = 0; at < fresh.length; at += MOST_ASSETS) {
      const files = new Map(fresh.slice(at, at + MOST_ASSETS));
      for (const [path, url] of await this.#releases.publish(files)) urls.set(files.get(path)?.sha256 ?? '', url);
    }
    for (const [path, { sha256 }] of this.#staged) redirects[path] = { url: urls.get(sha256) ?? '', sha256 };
    const sorted = Object.fromEntries(Object.entries(redirects).toSorted(([a], [b]) => (a < b ? -1 : 1)));
    const files = [
      ['nginx.conf', Buffer.from(nginxMap(sorted))],
      ['map.json', Buffer.from(`${JSON.stringify(sorted, undefined, 1)}\n`)],
    ] as const;
    await this.#inner.replace('redirects', new Map(files));
    this.#staged.clear();
  }

  async replace(folder: string, files: ReadonlyMap<string, Buffer>): Promise<void> {
    await this.#inner.replace(folder, files);
  }

  async remove(paths: readonly string[]): Promise<void> {
    await this.#inner.remove(paths);
  }

  tree(store: Store, report?: Report): Tree {
    return {
      where: this.where,
      read: (path, limit) => this.#inner.read(path, limit),
      file: async (path, { size, sha256 }) => {
        const published = isAsset(path) ? (await this.#redirects())[path] : undefined;
        if (published === undefined) return this.#inner.tree(store, report).file(path, { size, sha256 });
        return fetchBlob(store, { url: published.url, sha256, size }, { report, signal: this.#signal });
      },
    };
  }
}

/**
 * Images as assets of a GitHub repository's releases. All other files (sums, index, transfer files) are published into another place, such as
 * a folder that becomes Pages, with a map of redirects from images' paths to assets: systemd-sysupdate requests images from the folder of
 * their sums and follows redirects. Each publish makes one release: a draft until all assets are uploaded, then immutable.
 */
export function githubDestination(
  inner: Destination,
  repository: string,
  env: Environment = process.env,
  signal?: AbortSignal,
): Destination {
  if (!/^[\w.-]+\/[\w.-]+$/.test(repository))
    throw new UserError(`'${repository}' is not a valid repository`, { next: 'write it as owner/name' });
  const token = envOf('GITHUB_TOKEN', env);
  if (!token) throw new UserError('no token for GitHub', { where: repository, next: 'set GITHUB_TOKEN to a token with contents: write' });
  return new GitHubDestination(inner, repository, openGitHub({ api: githubApi(env), token, signal }), signal);
}
