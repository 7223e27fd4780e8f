import { dispatcher, UserError } from '@flatcar/core';
import { request } from 'undici';
import * as v from 'valibot';
import type { Outcome } from './outcome.ts';

/** Where a workflow runs, as GitHub tells it in the environment. */
export interface GitHub {
  readonly api: string;
  readonly repository: string;
  readonly token: string;
  /** Page of this run. */
  readonly run: string;
}

/** What GitHub's environment says; undefined outside of a workflow, or where the job was given no token. */
export function githubFrom(env: NodeJS.ProcessEnv): GitHub | undefined {
  const { GITHUB_API_URL: api, GITHUB_REPOSITORY: repository, GITHUB_TOKEN: token, GITHUB_SERVER_URL: server, GITHUB_RUN_ID: run } = env;
  if (api === undefined || repository === undefined || token === undefined || token === '') return undefined;
  return { api, repository, token, run: `${server ?? ''}/${repository}/actions/runs/${run ?? ''}` };
}

/** Asks GitHub's REST API; an answer that is no success is an error with what it says. */
export async function ask<T extends v.GenericSchema>(
  { api, repository, token }: GitHub,
  method: 'GET' | 'POST' | 'PATCH',
  path: string,
  schema: T,
  body?: object,
): Promise<v.InferOutput<T>> {
  const url = `${api}/repos/${repository}${path}`;
  const { statusCode, body: answer } = await request(url, {
    method,
    dispatcher: dispatcher(),
    headers: {
      authorization: `Bearer ${token}`,
      accept: 'application/vnd.github+json',
      'user-agent': 'flatcar-ext',
      'content-type': 'application/json',
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await answer.text();
  if (statusCode < 200 || statusCode > 299)
    throw new UserError(`GitHub answered ${statusCode}: ${text.slice(0, 300)}`, {
      where: `${method} ${url}`,
      next: 'look at the permissions of the job',
    });
  return v.parse(schema, JSON.parse(text));
}

const LABEL = 'extension-failure';
const Issues = v.array(v.object({ number: v.number(), title: v.string(), body: v.nullable(v.string()) }));
const titleOf = (extension: string): string => `${extension} fails`;

/** What is done to issues. */
export interface IssueChange {
  readonly extension: string;
  readonly action: 'opened' | 'updated' | 'closed';
}

/**
 * One open issue for each extension that fails, with the last failure in its text, and none for those that work again. Extensions that this
 * run did not touch keep theirs.
 */
export async function syncIssues(github: GitHub, outcomes: readonly Outcome[]): Promise<IssueChange[]> {
  const open = await ask(github, 'GET', `/issues?state=open&labels=${LABEL}&per_page=100`, Issues);
  const changes: IssueChange[] = [];
  for (const [extension, its] of Map.groupBy(outcomes, (one) => one.extension)) {
    const issue = open.find(({ title }) => title === titleOf(extension));
    const failed = its.filter(({ ok }) => !ok);
    if (failed.length === 0) {
      if (issue === undefined) continue;
      await ask(github, 'POST', `/issues/${issue.number}/comments`, v.unknown(), { body: `It works again: ${github.run}` });
      await ask(github, 'PATCH', `/issues/${issue.number}`, v.unknown(), { state: 'closed' });
      changes.push({ extension, action: 'closed' });
      continue;
    }
    const body = [
      `The last run in which it failed: ${github.run}. The next run tries again; other extensions are not held back. This issue is closed once it works.`,
      // Four backticks: what failed may print three.
      ...failed.map(({ step, what, error = '' }) => `**${step} ${what}**\n\n\`\`\`\`\n${error.replaceAll('````', '')}\n\`\`\`\``),
    ].join('\n\n');
    if (issue === undefined) await ask(github, 'POST', '/issues', v.unknown(), { title: titleOf(extension), body, labels: [LABEL] });
    else await ask(github, 'PATCH', `/issues/${issue.number}`, v.unknown(), { body });
    changes.push({ extension, action: issue === undefined ? 'opened' : 'updated' });
  }
  return changes;
}
