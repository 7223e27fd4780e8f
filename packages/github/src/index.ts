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

/** Limit of a response: the largest are lists of a hundred releases with all their assets. */
const MOST_JSON = 64 << 20;
/** Finishing a release of a thousand assets takes GitHub a while. */
const HEADERS_MS = 120_000;
/** GitHub compares the digest of an asset before it answers. */
const UPLOAD_HEADERS_MS = 300_000;

/** How to reach GitHub. */
export interface GitHubOptions extends Pick<HttpOptions, 'mirror' | 'signal' | 'pause'> {
  /** Address of the REST API; by default GITHUB_API_URL, else api.github.com. */
  readonly api?: string;
  /** Address of the GraphQL API; by default below the REST API. */
  readonly graphql?: string;
  /** Sent only to the API's own origin and to its host for uploads; never to a mirror. */
  readonly token?: string | undefined;
}

/** A response of GitHub that is an error. */
export class GitHubError extends HttpStatusError {
  /** The body of the response, or its message. */
  readonly answer: string;
  constructor(status: number, answer: string, about: { where: string; next: string }) {
    const line = answer.replaceAll(/\s+/g, ' ').trim().slice(0, 300).toWellFormed();
    super(status, about, `GitHub answered ${status}${line === '' ? '' : `: ${line}`}`);
    this.name = 'GitHubError';
    this.answer = answer;
  }
}

/** The address of the API: GITHUB_API_URL, which GitHub's runners set, else GitHub's own. */
export const githubApi = (env: Environment = process.env): string =>
  (envOf('GITHUB_API_URL', env) ?? 'https://api.github.com').replace(/\/+$/, '');

/** The token from the environment: GITHUB_TOKEN, else GH_TOKEN. */
export const githubToken = (env: Environment = process.env): string | undefined => envOf('GITHUB_TOKEN', env) ?? envOf('GH_TOKEN', env);

const MessageSchema = v.object({ message: v.string() });
const GraphQlSchema = v.object({ errors: v.optional(v.array(v.object({ message: v.string() }))) });

/** The message in the body of an error response, else the body. */
function messageIn(bytes: Buffer): string {
  const text = bytes.toString('utf8');
  try {
    return v.parse(MessageSchema, JSON.parse(text)).message;
  } catch {
    return text;
  }
}

/** GitHub's APIs. Paths begin with `/`; addresses from responses may be passed unchanged. */
export interface GitHubClient {
  /** Address of the REST API. */
  readonly api: string;
  /** Reads one object. */
  get<T extends v.GenericSchema>(path: string, schema: T): Promise<v.InferOutput<T>>;
  /** Reads one object as text. */
  text(path: string): Promise<string>;
  /** Reads all pages of a list; the query of the path has its `per_page`. */
  pages<T extends v.GenericSchema>(path: string, item: T): Promise<v.InferOutput<T>[]>;
  /** Changes something. Not retried if it is unknown whether the request arrived. */
  send<T extends v.GenericSchema>(method: 'POST' | 'PATCH' | 'DELETE', path: string, schema: T, body?: object): Promise<v.InferOutput<T>>;
  /** Uploads a file as an asset of a release to the address from the release, which must be on GitHub's own hosts. */
  upload<T extends v.GenericSchema>(
    uploadUrl: string,
    asset: { name: string; file: string; size: number },
    schema: T,
  ): Promise<v.InferOutput<T>>;
  /** Sends a mutation to the GraphQL API, which also answers errors with status 200. */
  mutate(query: string, variables: object): Promise<void>;
  /** Reads a response of any status, without retries. */
  forward(path: string): Promise<HttpResponse>;
}

/** What to do about an error response. */
function remedy(status: number): string {
  if (status === 401 || status === 403) return 'check the token and its permissions (contents: write to publish)';
  return status === 404 ? 'check the name' : 'try again later';
}

/** Requests to GitHub's APIs, with the token. */
class ApiClient implements GitHubClient {
  readonly api: string;
  readonly #graphql: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #options: HttpOptions;

  constructor({ api, graphql, token, mirror, signal, pause }: GitHubOptions) {
    this.api = (api ?? githubApi()).replace(/\/+$/, '');
    this.#graphql = graphql ?? `${this.api}/graphql`;
    const headers: Record<string, string> = { accept: 'application/vnd.github+json', 'x-github-api-version': '2022-11-28' };
    if (token !== undefined && token !== '') headers['authorization'] = `Bearer ${token}`;
    this.#headers = headers;
    const whenLimited = token === undefined ? 'set GITHUB_TOKEN, or try again then' : 'try again then';
    this.#options = { mirror, signal, pause, whenLimited };
  }

  #urlOf(path: string): string {
    return path.startsWith('/') ? `${this.api}${path}` : path;
  }

  /** Refuses hosts that must not get the token: all but the API's and the one for uploads (uploads.github.com; elsewhere the API's own). */
  #assertOwn(url: string): void {
    const own = new URL(this.api);
    const hosts = [own.host, own.host.replace(/^api\./, 'uploads.'), new URL(this.#graphql).host];
    const isOwn = URL.canParse(url) && new URL(url).protocol === own.protocol && hosts.includes(new URL(url).host);
    if (!isOwn)
      throw new UserError(`GitHub names a host that is not its own: ${URL.canParse(url) ? new URL(url).origin : url.slice(0, 200)}`, {
        where: this.api,
        next: 'check GITHUB_API_URL',
      });
  }

  /** Sends a request; throws a GitHubError for an error response. */
  async #call(method: HttpMethod, url: string, more: HttpOptions): Promise<HttpResponse> {
    this.#assertOwn(url);
    const options = { ...this.#options, limits: { headers: HEADERS_MS }, headers: this.#headers, ...more, method, max: MOST_JSON };
    const response = await httpRequest(url, options);
    const { status, bytes } = response;
    if (status >= 200 && status <= 299) return response;
    throw new GitHubError(status, messageIn(bytes), { where: `${method} ${url}`, next: remedy(status) });
  }

  async #callWithJson(method: HttpMethod, url: string, body: object | undefined): Promise<HttpResponse> {
    if (body === undefined) return this.#call(method, url, {});
    const headers = { ...this.#headers, 'content-type': 'application/json' };
    return this.#call(method, url, { headers, body: () => JSON.stringify(body) });
  }

  async get<T extends v.GenericSchema>(path: string, schema: T): Promise<v.InferOutput<T>> {
    const url = this.#urlOf(path);
    return jsonIn(await this.#call('GET', url, {}), schema, url);
  }

  async text(path: string): Promise<string> {
    return (await this.#call('GET', this.#urlOf(path), {})).bytes.toString('utf8');
  }

  async pages<T extends v.GenericSchema>(path: string, item: T): Promise<v.InferOutput<T>[]> {
    return getPages(this.#urlOf(path), item, (url) => this.#call('GET', url, {}));
  }

  async send<T extends v.GenericSchema>(
    method: 'POST' | 'PATCH' | 'DELETE',
    path: string,
    schema: T,
    body?: object,
  ): Promise<v.InferOutput<T>> {
    const url = this.#urlOf(path);
    return jsonIn(await this.#callWithJson(method, url, body), schema, url);
  }

  async upload<T extends v.GenericSchema>(
    uploadUrl: string,
    { name, file, size }: { name: string; file: string; size: number },
    schema: T,
  ): Promise<v.InferOutput<T>> {
    const url = `${uploadUrl.replace(/\{.*$/, '')}?name=${encodeURIComponent(name)}`;
    const response = await this.#call('POST', url, {
      headers: { ...this.#headers, 'content-type': 'application/octet-stream', 'content-length': String(size) },
      body: () => createReadStream(file, { highWaterMark: 1 << 20 }),
      limits: { headers: UPLOAD_HEADERS_MS, total: timeFor(size) },
    });
    return jsonIn(response, schema, url);
  }

  async mutate(query: string, variables: object): Promise<void> {
    const response = await this.#callWithJson('POST', this.#graphql, { query, variables });
    const [error] = jsonIn(response, GraphQlSchema, this.#graphql).errors ?? [];
    if (error !== undefined)
      throw new GitHubError(200, error.message, {
        where: this.#graphql,
        next: 'check the settings of the repository and of the branch',
      });
  }

  async forward(path: string): Promise<HttpResponse> {
    return httpRequest(this.#urlOf(path), { ...this.#options, headers: this.#headers, attempts: 1, max: MOST_JSON });
  }
}

const jsonIn = <T extends v.GenericSchema>({ bytes }: HttpResponse, schema: T, url: string): v.InferOutput<T> =>
  checkShape(schema, bytes.length === 0 ? undefined : jsonOf(bytes, url), url);

/** Opens GitHub's APIs. Requests throw a GitHubError for error responses, and an HttpError without a response. */
export function openGitHub(options: GitHubOptions = {}): GitHubClient {
  return new ApiClient(options);
}
