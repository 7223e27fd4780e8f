import { dispatcher, messageOf, UserError } from '@flatcar/core';
import { request } from 'undici';
import * as v from 'valibot';
import { oneLine } from '../text.ts';

/** A repository at GitHub and the run of a workflow in it. */
export interface GitHub {
  /** Address of the REST API. */
  readonly api: string;
  /** Address of the GraphQL API. */
  readonly graphql: string;
  /** Address of git and of pages. */
  readonly server: string;
  /** `owner/name`. */
  readonly repository: string;
  readonly token: string;
  /** The account whose issues are believed to be of the workflows. */
  readonly bot: string;
  /** Page of this run. */
  readonly run: string;
}

/** What GitHub's environment specifies; undefined outside of a workflow, or where the job was given no token. */
export function githubFrom(env: NodeJS.ProcessEnv): GitHub | undefined {
  const set = (name: string): string | undefined => env[name] || undefined;
  const [api, repository, token] = [set('GITHUB_API_URL'), set('GITHUB_REPOSITORY'), set('GITHUB_TOKEN')];
  if (api === undefined || repository === undefined || token === undefined) return undefined;
  const server = set('GITHUB_SERVER_URL') ?? 'https://github.com';
  return {
    api,
    graphql: set('GITHUB_GRAPHQL_URL') ?? `${api}/graphql`,
    server,
    repository,
    token,
    bot: set('FLATCAR_EXT_BOT') ?? 'github-actions[bot]',
    run: `${server}/${repository}/actions/runs/${set('GITHUB_RUN_ID') ?? ''}`,
  };
}

/** An answer of GitHub that is not a success. */
export class GitHubError extends UserError {
  readonly status: number;
  readonly answer: string;
  constructor(status: number, answer: string, options: { where: string; next: string }) {
    super(`GitHub answered ${status}: ${oneLine(answer, 300)}`, options);
    this.status = status;
    this.answer = answer;
  }
}

const Message = v.object({ message: v.string() });
const messageIn = (text: string): string => {
  try {
    return v.parse(Message, JSON.parse(text)).message;
  } catch {
    return text;
  }
};

/** A page of a list: more than this is not one. */
const MAX_PAGES = 50;

async function send(
  { token }: GitHub,
  method: 'GET' | 'POST' | 'PATCH',
  url: string,
  body: object | undefined,
): Promise<{ json: unknown; link: string }> {
  const where = `${method} ${url}`;
  const options = { method, dispatcher: dispatcher(), headersTimeout: 30_000, bodyTimeout: 60_000 };
  const headers = {
    authorization: `Bearer ${token}`,
    accept: 'application/vnd.github+json',
    'x-github-api-version': '2022-11-28',
    'user-agent': 'flatcar-ext',
    'content-type': 'application/json',
  };
  const answer = await request(
    url,
    body === undefined ? { ...options, headers } : { ...options, headers, body: JSON.stringify(body) },
  ).catch((cause: unknown) => {
    throw new UserError(`GitHub cannot be reached: ${messageOf(cause)}`, { where, cause, next: 'the next run tries again' });
  });
  const text = await answer.body.text();
  if (answer.statusCode < 200 || answer.statusCode > 299)
    throw new GitHubError(answer.statusCode, messageIn(text), { where, next: "check the permissions of the job's token" });
  const link = answer.headers['link'];
  try {
    return { json: text === '' ? undefined : (JSON.parse(text) as unknown), link: Array.isArray(link) ? link.join(',') : (link ?? '') };
  } catch (cause) {
    throw new UserError('the answer of GitHub is not JSON', { where, cause, next: 'check GITHUB_API_URL and the proxy settings' });
  }
}

function shaped<T extends v.GenericSchema>(schema: T, json: unknown, where: string): v.InferOutput<T> {
  const parsed = v.safeParse(schema, json);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw new UserError(`unexpected answer of GitHub: ${v.getDotPath(issue) ?? 'body'}: ${issue.message}`, { where, next: 'report this' });
}

/** Asks GitHub's REST API about the repository; throws GitHubError for an answer that is not a success. */
export async function ask<T extends v.GenericSchema>(
  github: GitHub,
  method: 'GET' | 'POST' | 'PATCH',
  path: string,
  schema: T,
  body?: object,
): Promise<v.InferOutput<T>> {
  const url = `${github.api}/repos/${github.repository}${path}`;
  return shaped(schema, (await send(github, method, url, body)).json, url);
}

/** All pages of a list; `path` has its query. The token goes to no other host. */
export async function askAll<T extends v.GenericSchema>(github: GitHub, path: string, item: T): Promise<v.InferOutput<T>[]> {
  const found: v.InferOutput<T>[] = [];
  const first = `${github.api}/repos/${github.repository}${path}${path.includes('?') ? '&' : '?'}per_page=100`;
  let url: string | undefined = first;
  for (let page = 0; url !== undefined; page += 1) {
    if (page === MAX_PAGES)
      throw new UserError(`the list has more than ${MAX_PAGES} pages`, { where: first, next: 'close or delete old entries' });
    const { json, link }: { json: unknown; link: string } = await send(github, 'GET', url, undefined);
    found.push(...shaped(v.array(item), json, url));
    const next = /<([^>]+)>\s*;[^,]*\brel="?next"?/.exec(link)?.[1];
    const following: URL | undefined = next === undefined ? undefined : new URL(next, url);
    if (following !== undefined && following.origin !== new URL(first).origin)
      throw new UserError('the list continues on another host', {
        where: following.href,
        next: 'check GITHUB_API_URL and the proxy settings',
      });
    url = following?.href;
  }
  return found;
}

const GraphQL = v.object({ errors: v.optional(v.array(v.object({ message: v.string() }))) });

/** Sends a mutation to GitHub's GraphQL API, which answers 200 for errors, too. */
export async function mutate(github: GitHub, query: string, variables: object): Promise<void> {
  const { errors = [] } = shaped(GraphQL, (await send(github, 'POST', github.graphql, { query, variables })).json, github.graphql);
  const [error] = errors;
  if (error !== undefined)
    throw new GitHubError(200, error.message, { where: github.graphql, next: 'check the settings of the repository and of the branch' });
}
