import { execFileSync } from 'node:child_process';
import type { FakeIssue, FakePull, FakeState, Permissions } from './state.ts';

export interface Answer {
  readonly status: number;
  readonly json: unknown;
  /** More pages follow. */
  readonly more?: boolean;
}
export interface Asked {
  readonly method: string;
  /** Below `/repos/<owner>/<name>`. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: Readonly<Record<string, unknown>>;
  readonly permissions: Permissions | undefined;
  readonly isApp: boolean;
  /** Address of the server. */
  readonly base: string;
}

/** GitHub's limits: characters of a body and of a title. */
const MAX_BODY = 65_536;
const MAX_TITLE = 256;

const refusal = (status: number, message: string): Answer => ({
  status,
  json: { message, documentation_url: 'https://docs.github.com/rest' },
});
const FORBIDDEN = refusal(403, 'Resource not accessible by integration');
const NOT_FOUND = refusal(404, 'Not Found');
const invalid = (field: string, message: string): Answer => ({
  status: 422,
  json: { message: 'Validation Failed', errors: [{ resource: 'Issue', code: 'custom', field, message }] },
});

/** Why the text of an issue or pull request is refused. */
function textProblem(body: Readonly<Record<string, unknown>>): Answer | undefined {
  const { title, body: text } = body;
  if (typeof text === 'string' && text.length > MAX_BODY) return invalid('body', `body is too long (maximum is ${MAX_BODY} characters)`);
  if (typeof title === 'string' && title.length > MAX_TITLE)
    return invalid('title', `title is too long (maximum is ${MAX_TITLE} characters)`);
  return undefined;
}

/** One page: 30 entries unless `per_page` asks for up to 100. */
function page(all: readonly unknown[], query: URLSearchParams): Answer {
  const size = Math.min(Number(query.get('per_page') ?? 30), 100);
  const number = Math.max(Number(query.get('page') ?? 1), 1);
  return { status: 200, json: all.slice((number - 1) * size, number * size), more: number * size < all.length };
}

const stateIs =
  (query: URLSearchParams) =>
  ({ state }: { state: string }): boolean =>
    (query.get('state') ?? 'open') === 'all' || state === (query.get('state') ?? 'open');

/** Issues, newest first; pull requests are issues too, as GitHub lists them. */
function listIssues({ issues, pulls }: FakeState, query: URLSearchParams): Answer {
  const labels = (query.get('labels') ?? '').split(',').filter((one) => one !== '');
  const all = [...issues, ...pulls.map((pull) => ({ ...pull, pull_request: { url: pull.html_url } }))]
    .filter(stateIs(query))
    .filter((one) => labels.every((label) => one.labels.some(({ name }) => name === label)))
    .toSorted((a, b) => b.number - a.number);
  return page(query.get('direction') === 'asc' ? all.toReversed() : all, query);
}

const next = ({ issues, pulls }: FakeState): number => issues.length + pulls.length + 1;
const labelsOf = (value: unknown): { name: string }[] => (Array.isArray(value) ? value.map(String).map((name) => ({ name })) : []);

function openIssue(state: FakeState, { body }: Asked): Answer {
  const problem = textProblem(body);
  if (problem !== undefined) return problem;
  const now = new Date().toISOString();
  const issue: FakeIssue = {
    number: next(state),
    title: String(body['title']),
    body: typeof body['body'] === 'string' ? body['body'] : null,
    state: 'open',
    state_reason: null,
    labels: labelsOf(body['labels']),
    comments: [],
    created_at: now,
    updated_at: now,
    user: { login: 'github-actions[bot]' },
  };
  for (const { name } of issue.labels) state.labels.add(name);
  state.issues.push(issue);
  return { status: 201, json: issue };
}

/** The commit of a branch; undefined where there is none. */
export function commitOf({ gitDir }: FakeState, branch: string): string | undefined {
  try {
    return execFileSync('git', ['--git-dir', gitDir, 'rev-parse', '--verify', '--quiet', `refs/heads/${branch}`], {
      encoding: 'utf8',
    }).trim();
  } catch {
    return undefined;
  }
}

function openPull(state: FakeState, { body, isApp, base }: Asked): Answer {
  if (!isApp && !state.settings.actionsMayOpenPulls)
    return refusal(403, 'GitHub Actions is not permitted to create or approve pull requests.');
  const problem = textProblem(body);
  if (problem !== undefined) return problem;
  const ref = String(body['head']).replace(`${state.owner}:`, '');
  const sha = commitOf(state, ref);
  const to = String(body['base']);
  if (sha === undefined) return invalid('head', 'head is invalid');
  if (sha === commitOf(state, to)) return invalid('head', `No commits between ${to} and ${ref}`);
  if (state.pulls.some((one) => one.state === 'open' && one.head.ref === ref))
    return invalid('head', `A pull request already exists for ${state.owner}:${ref}.`);
  const number = next(state);
  const pull: FakePull = {
    number,
    title: String(body['title']),
    body: typeof body['body'] === 'string' ? body['body'] : null,
    state: 'open',
    merged_at: null,
    labels: [],
    comments: [],
    head: { ref, sha, label: `${state.owner}:${ref}` },
    base: { ref: to },
    auto_merge: null,
    html_url: `${base}/${state.owner}/${state.repository}/pull/${number}`,
    node_id: `PR_${number}`,
    created_at: new Date().toISOString(),
    user: { login: isApp ? 'flatcar-extensions[bot]' : 'github-actions[bot]' },
  };
  state.pulls.push(pull);
  return { status: 201, json: pull };
}

function listPulls(state: FakeState, query: URLSearchParams): Answer {
  const head = query.get('head');
  const all = state.pulls
    .filter(stateIs(query))
    .filter((one) => head === null || one.head.label === head)
    .map((one) => ({
      ...one,
      head: { ...one.head, sha: (one.state === 'open' ? commitOf(state, one.head.ref) : undefined) ?? one.head.sha },
    }));
  return page(all.toReversed(), query);
}

/** Changes what a request may change of an issue or a pull request. */
function change(found: FakeIssue | FakePull | undefined, { body }: Asked): Answer {
  if (found === undefined) return NOT_FOUND;
  const problem = textProblem(body);
  if (problem !== undefined) return problem;
  for (const key of ['title', 'body', 'state', 'state_reason'] as const)
    if (body[key] !== undefined) Object.assign(found, { [key]: body[key] });
  if (Array.isArray(body['labels'])) found.labels = labelsOf(body['labels']);
  return { status: 200, json: found };
}

function comment(found: FakeIssue | FakePull | undefined, { body }: Asked): Answer {
  if (found === undefined) return NOT_FOUND;
  const problem = textProblem(body);
  if (problem !== undefined) return problem;
  const made = { id: found.comments.length + 1, body: String(body['body']) };
  found.comments.push(made);
  return { status: 201, json: made };
}

function addLabels(state: FakeState, found: FakeIssue | FakePull | undefined, { body }: Asked): Answer {
  if (found === undefined) return NOT_FOUND;
  found.labels = [...found.labels, ...labelsOf(body['labels'])];
  for (const { name } of found.labels) state.labels.add(name);
  return { status: 200, json: found.labels };
}

/** Answers as GitHub's REST API does for what belongs to a repository; undefined for what this fake does not know. */
export function answer(state: FakeState, asked: Asked): Answer | undefined {
  const { method, path, permissions, query } = asked;
  const may = (...scopes: string[]): boolean => scopes.some((scope) => permissions?.[scope] === 'write');
  const [, kind, id, part] = /^\/(issues|pulls|labels)(?:\/(\d+))?(?:\/(comments|labels|files|commits))?$/.exec(path) ?? [];
  const found = [...state.issues, ...state.pulls].find(({ number }) => number === Number(id));
  const isPull = found !== undefined && 'head' in found;
  switch (`${method} ${kind ?? ''}${id === undefined ? '' : '/n'}${part === undefined ? '' : `/${part}`}`) {
    case 'GET issues':
      return listIssues(state, query);
    case 'GET issues/n':
    case 'GET pulls/n':
      return found === undefined ? NOT_FOUND : { status: 200, json: found };
    case 'GET issues/n/comments':
      return found === undefined ? NOT_FOUND : page(found.comments, query);
    case 'POST issues':
      return may('issues') ? openIssue(state, asked) : FORBIDDEN;
    case 'PATCH issues/n':
      return may('issues', ...(isPull ? ['pull-requests'] : [])) ? change(found, asked) : FORBIDDEN;
    case 'POST issues/n/comments':
      return may('issues', ...(isPull ? ['pull-requests'] : [])) ? comment(found, asked) : FORBIDDEN;
    case 'POST issues/n/labels':
      return may('issues', ...(isPull ? ['pull-requests'] : [])) ? addLabels(state, found, asked) : FORBIDDEN;
    case 'GET labels':
      return page(
        [...state.labels].map((name) => ({ name })),
        query,
      );
    case 'POST labels':
      if (!may('issues', 'pull-requests')) return FORBIDDEN;
      if (state.labels.has(String(asked.body['name']))) return invalid('name', 'already_exists');
      state.labels.add(String(asked.body['name']));
      return { status: 201, json: asked.body };
    case 'GET pulls':
      return listPulls(state, query);
    case 'POST pulls':
      return may('pull-requests') ? openPull(state, asked) : FORBIDDEN;
    case 'PATCH pulls/n':
      return may('pull-requests') ? change(found, asked) : FORBIDDEN;
    default:
      return undefined;
  }
}

/** Answers the two mutations of GitHub's GraphQL API by which a pull request is merged once its checks pass, or not any more. */
export function answerGraphql(state: FakeState, { body, permissions }: Asked): Answer {
  const { query = '', variables } = body as { query?: string; variables?: { pull?: string } };
  const [, mutation] = /\b((?:en|dis)ablePullRequestAutoMerge)\b/.exec(query) ?? [];
  const pull = state.pulls.find((one) => one.node_id === variables?.pull);
  const failed = (message: string): Answer => ({ status: 200, json: { data: null, errors: [{ message }] } });
  if (mutation === undefined || pull === undefined) return failed('Could not resolve to a node');
  if (permissions?.['pull-requests'] !== 'write' || permissions['contents'] !== 'write')
    return failed('Resource not accessible by integration');
  if (!state.settings.allowAutoMerge) return failed('Auto merge is not allowed for this repository');
  pull.auto_merge = mutation.startsWith('en') ? { merge_method: 'squash' } : null;
  return { status: 200, json: { data: { [mutation]: { clientMutationId: null } } } };
}
