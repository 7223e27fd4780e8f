import type { HttpResponse } from '@flatcar/core/engine';
import { openGitHub, type GitHubClient } from '@flatcar/github';
import type * as v from 'valibot';

export { GitHubError } from '@flatcar/github';

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
  /** The account of the workflows, whose issues count. */
  readonly bot: string;
  /** Page of this run. */
  readonly run: string;
}

/** The repository and run of a workflow's environment; undefined outside a workflow, or if the job has no token. */
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

/** The HTTP client for a repository. */
const clientOf = ({ api, graphql, token }: GitHub): GitHubClient => openGitHub({ api, graphql, token });

/** Sends a request about the repository to GitHub's REST API. Throws a GitHubError for a response that is not a success. */
export async function ask<T extends v.GenericSchema>(
  github: GitHub,
  method: 'GET' | 'POST' | 'PATCH',
  path: string,
  schema: T,
  body?: object,
): Promise<v.InferOutput<T>> {
  const client = clientOf(github);
  const at = `/repos/${github.repository}${path}`;
  return method === 'GET' ? client.get(at, schema) : client.send(method, at, schema, body);
}

/** All pages of a list; `path` has its query. */
export function askAll<T extends v.GenericSchema>(github: GitHub, path: string, item: T): Promise<v.InferOutput<T>[]> {
  return clientOf(github).pages(`/repos/${github.repository}${path}${path.includes('?') ? '&' : '?'}per_page=100`, item);
}

/** Sends a mutation to GitHub's GraphQL API. */
export function mutate(github: GitHub, query: string, variables: object): Promise<void> {
  return clientOf(github).mutate(query, variables);
}

/** Reads a path of the REST API with the token of the job, whatever the status of the response. */
export function forwardTo(github: GitHub, path: string): Promise<HttpResponse> {
  return clientOf(github).forward(path);
}
