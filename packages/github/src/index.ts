import { createReadStream } from 'node:fs';
import {
  checkShape,
  envOf,
  getPages,
  httpRequest,
  HttpStatusError,
  jsonOf,
  timeFor,
  UserError,
  type Environment,
  type HttpMethod,
  type HttpOptions,
  type HttpResponse,
} from '@flatcar/core/engine';
import * as v from 'valibot';

/** A page of a list, or an object: the largest are lists of a hundred releases with all their assets. */
const MOST_JSON = 64 << 20;
/** GitHub answers late where it does much, such as finishing a release of a thousand assets. */
const HEADERS_MS = 120_000;
/** It compares the digest of an asset before it answers. */
const UPLOAD_HEADERS_MS = 300_000;

/** How GitHub is asked. */
export interface GitHubOptions extends Pick<HttpOptions, 'mirror' | 'signal' | 'pause'> {
  /** Address of the REST API; GITHUB_API_URL, else that of github.com. */
  readonly api?: string;
  /** Address of the GraphQL API; below that of the REST API by default. */
  readonly graphql?: string;
  /** Sent to the API's own origin, and with an upload to its host for uploads; never to a mirror. */
  readonly token?: string | undefined;
}

/** An answer of GitHub that is not a success. */
export class GitHubError extends HttpStatusError {
  /** What GitHub says. */
  readonly answer: string;
  constructor(status: number, answer: string, about: { where: string; next: string }) {
    const line = answer.replaceAll(/\s+/g, ' ').trim().slice(0, 300).toWellFormed();
    super(status, about, `GitHub answered ${status}${line === '' ? '' : `: ${line}`}`);
    this.name = 'GitHubError';
    this.answer = answer;
  }
}

/** The address of the API: GitHub's own, or what its runners (GITHUB_API_URL) name. */
export const githubApi = (env: Environment = process.env): string =>
  (envOf('GITHUB_API_URL', env) ?? 'https://api.github.com').replace(/\/+$/, '');

/** The token of the environment: GITHUB_TOKEN, else GH_TOKEN. */
export const githubToken = (env: Environment = process.env): string | undefined => envOf('GITHUB_TOKEN', env) ?? envOf('GH_TOKEN', env);

const Message = v.object({ message: v.string() });
const GraphQL = v.object({ errors: v.optional(v.array(v.object({ message: v.string() }))) });

/** What GitHub says in the body of an error. */
function messageIn(bytes: Buffer): string {
  const text = bytes.toString('utf8');
  try {
    return v.parse(Message, JSON.parse(text)).message;
  } catch {
    return text;
  }
}

/** GitHub's APIs. Paths begin with `/`; addresses in answers may be passed as they are. */
export interface GitHubClient {
  /** Address of the REST API. */
  readonly api: string;
  /** One object. */
  get<T extends v.GenericSchema>(path: string, schema: T): Promise<v.InferOutput<T>>;
  /** The same as text: its shape is the caller's business. */
  text(path: string): Promise<string>;
  /** All pages of a list; the query of the path has its `per_page`. */
  pages<T extends v.GenericSchema>(path: string, item: T): Promise<v.InferOutput<T>[]>;
  /** Changes something. It is not sent again when nobody knows whether it arrived. */
  send<T extends v.GenericSchema>(method: 'POST' | 'PATCH' | 'DELETE', path: string, schema: T, body?: object): Promise<v.InferOutput<T>>;
  /** Uploads a file as an asset of a release, to the address that the release names: on GitHub's own hosts only. */
  upload<T extends v.GenericSchema>(
    uploadUrl: string,
    asset: { name: string; file: string; size: number },
    schema: T,
  ): Promise<v.InferOutput<T>>;
  /** Sends a mutation to the GraphQL API, which answers 200 for errors, too. */
  mutate(query: string, variables: object): Promise<void>;
  /** An answer of any status, as it is, without another attempt. */
  forward(path: string): Promise<HttpResponse>;
}

/** Opens GitHub's APIs. Requests throw a GitHubError for answers that are errors, and an HttpError where there is none. */
export function openGitHub(options: GitHubOptions = {}): GitHubClient {
  const { token, mirror, signal, pause } = options;
  const api = (options.api ?? githubApi()).replace(/\/+$/, '');
  const graphql = options.graphql ?? `${api}/graphql`;
  const urlOf = (path: string): string => (path.startsWith('/') ? `${api}${path}` : path);
  const headers: Record<string, string> = { accept: 'application/vnd.github+json', 'x-github-api-version': '2022-11-28' };
  if (token !== undefined && token !== '') headers['authorization'] = `Bearer ${token}`;
  const shared: HttpOptions = {
    mirror,
    signal,
    pause,
    whenLimited: token === undefined ? 'set GITHUB_TOKEN, or try again then' : 'try again then',
  };

  /** Only GitHub's own hosts get the token: the API's, and for uploads the one beside it (uploads.github.com; elsewhere the API's own). */
  function assertOwn(url: string): void {
    const own = new URL(api);
    const hosts = [own.host, own.host.replace(/^api\./, 'uploads.'), new URL(graphql).host];
    const isOwn = URL.canParse(url) && new URL(url).protocol === own.protocol && hosts.includes(new URL(url).host);
    if (!isOwn)
      throw new UserError(`GitHub names a host that is not its own: ${URL.canParse(url) ? new URL(url).origin : url.slice(0, 200)}`, {
        where: api,
        next: 'check GITHUB_API_URL',
      });
  }

  async function call(method: HttpMethod, url: string, more: HttpOptions): Promise<HttpResponse> {
    assertOwn(url);
    const response = await httpRequest(url, { ...shared, limits: { headers: HEADERS_MS }, ...more, method, max: MOST_JSON });
    const { status, bytes } = response;
    if (status >= 200 && status <= 299) return response;
    const isRight = status === 401 || status === 403;
    throw new GitHubError(status, messageIn(bytes), {
      where: `${method} ${url}`,
      next: isRight
        ? 'check the token and its permissions (contents: write to publish)'
        : status === 404
          ? 'check the name'
          : 'try again later',
    });
  }

  const jsonIn = <T extends v.GenericSchema>({ bytes }: HttpResponse, schema: T, url: string): v.InferOutput<T> =>
    checkShape(schema, bytes.length === 0 ? undefined : jsonOf(bytes, url), url);

  async function sendJson(method: HttpMethod, url: string, body: object | undefined): Promise<HttpResponse> {
    if (body === undefined) return call(method, url, { headers });
    return call(method, url, { headers: { ...headers, 'content-type': 'application/json' }, body: () => JSON.stringify(body) });
  }

  return {
    api,
    async get(path, schema) {
      const url = urlOf(path);
      return jsonIn(await call('GET', url, { headers }), schema, url);
    },
    text: async (path) => (await call('GET', urlOf(path), { headers })).bytes.toString('utf8'),
    pages: (path, item) => getPages(urlOf(path), item, (url) => call('GET', url, { headers })),
    async send(method, path, schema, body) {
      const url = urlOf(path);
      return jsonIn(await sendJson(method, url, body), schema, url);
    },
    async upload(uploadUrl, { name, file, size }, schema) {
      const url = `${uploadUrl.replace(/\{.*$/, '')}?name=${encodeURIComponent(name)}`;
      const response = await call('POST', url, {
        headers: { ...headers, 'content-type': 'application/octet-stream', 'content-length': String(size) },
        body: () => createReadStream(file, { highWaterMark: 1 << 20 }),
        limits: { headers: UPLOAD_HEADERS_MS, total: timeFor(size) },
      });
      return jsonIn(response, schema, url);
    },
    async mutate(query, variables) {
      const { errors = [] } = jsonIn(await sendJson('POST', graphql, { query, variables }), GraphQL, graphql);
      const [error] = errors;
      if (error !== undefined)
        throw new GitHubError(200, error.message, { where: graphql, next: 'check the settings of the repository and of the branch' });
    },
    forward: (path) => httpRequest(urlOf(path), { ...shared, headers, attempts: 1, max: MOST_JSON }),
  };
}
