import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { GitHub } from '../../src/ci/github.ts';

export interface FakeIssue {
  number: number;
  title: string;
  body: string | null;
  state: string;
  labels: { name: string }[];
  user: { login: string };
  comments: string[];
}
export interface FakePull {
  number: number;
  node_id: string;
  title: string;
  body: string | null;
  head: string;
  base: string;
  state: string;
  merged_at: string | null;
  auto_merge: object | null;
  html_url: string;
}

/** What GitHub keeps and answers, as far as the workflows use it (docs.github.com/rest: issues, pulls; GraphQL: auto-merge). */
export class FakeGitHub {
  issues: FakeIssue[] = [];
  pulls: FakePull[] = [];
  /** `METHOD path`, of all that changes something. */
  changes: string[] = [];
  /** Gives a status and message for a request that is refused. */
  refuse: (method: string, path: string) => [status: number, message: string] | undefined = () => undefined;
  user = 'github-actions[bot]';
  #server: Server | undefined;

  async start(server: string): Promise<GitHub> {
    this.#server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const url = new URL(request.url ?? '', `http://${request.headers.host}`);
        const method = request.method ?? '';
        const send = (status: number, value: unknown, headers: Record<string, string> = {}): void => {
          response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
        };
        const text = Buffer.concat(chunks).toString();
        const refused =
          request.headers.authorization === 'Bearer secret' ? this.refuse(method, url.pathname) : ([401, 'Bad credentials'] as const);
        if (refused !== undefined) return send(refused[0], { message: refused[1] });
        if (method !== 'GET') this.changes.push(`${method} ${url.pathname}`);
        const answer = this.#answer(method, url, text === '' ? {} : (JSON.parse(text) as Record<string, unknown>));
        if (!Array.isArray(answer.value)) return send(answer.status, answer.value);
        const [size, page] = [Number(url.searchParams.get('per_page') ?? 30), Number(url.searchParams.get('page') ?? 1)];
        const next = new URL(url);
        next.searchParams.set('page', String(page + 1));
        send(
          200,
          answer.value.slice((page - 1) * size, page * size),
          page * size < answer.value.length ? { link: `<${next.href}>; rel="next"` } : {},
        );
      });
    });
    await new Promise<void>((done) => {
      this.#server?.listen(0, '127.0.0.1', done);
    });
    const api = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    return {
      api,
      graphql: `${api}/graphql`,
      server,
      repository: 'owner/repo',
      token: 'secret',
      bot: 'github-actions[bot]',
      run: 'https://github.test/owner/repo/actions/runs/1',
    };
  }

  stop(): void {
    this.#server?.closeAllConnections();
    this.#server?.close();
  }

  #answer(method: string, url: URL, body: Record<string, unknown>): { status: number; value: unknown } {
    if (url.pathname === '/graphql') {
      const { pull } = body['variables'] as { pull: string };
      const found = this.pulls.find((one) => one.node_id === pull);
      if (found === undefined) return { status: 200, value: { errors: [{ message: 'Could not resolve to a node' }] } };
      found.auto_merge = String(body['query']).includes('enablePullRequestAutoMerge') ? {} : null;
      return { status: 200, value: { data: {} } };
    }
    const [, kind, number, comments] = /^\/repos\/owner\/repo\/(issues|pulls)(?:\/(\d+))?(\/comments)?$/.exec(url.pathname) ?? [];
    if (kind === undefined) return { status: 404, value: { message: 'Not Found' } };
    // https://github.com/orgs/community/discussions/41331
    if (typeof body['body'] === 'string' && body['body'].length > 65_536)
      return { status: 422, value: { message: 'Validation Failed: body is too long (maximum is 65536 characters)' } };
    if (kind === 'pulls') return this.#pulls(method, url, number, body);
    const issue = this.issues.find((one) => one.number === Number(number));
    if (method === 'GET') {
      const [state, label] = [url.searchParams.get('state') ?? 'open', url.searchParams.get('labels')];
      return { status: 200, value: this.issues.filter((one) => (state === 'all' || one.state === state) && (label === null || one.labels.some(({ name }) => name === label))) }; // prettier-ignore
    }
    if (number !== undefined && issue === undefined) return { status: 404, value: { message: 'Not Found' } };
    if (comments !== undefined) issue?.comments.push(String(body['body']));
    else if (issue !== undefined) Object.assign(issue, body);
    else this.issues.push(this.issue(body as { title: string; body: string; labels: string[] }));
    return { status: 201, value: {} };
  }

  /** An issue as it is kept. */
  issue({ title, body, labels }: { title: string; body: string; labels: readonly string[] }): FakeIssue {
    return { number: this.issues.length + 1, title, body, state: 'open', comments: [], user: { login: this.user }, labels: labels.map((name) => ({ name })) }; // prettier-ignore
  }

  #pulls(method: string, url: URL, number: string | undefined, body: Record<string, unknown>): { status: number; value: unknown } {
    const pull = this.pulls.find((one) => one.number === Number(number));
    if (method === 'GET') {
      const [state, head] = [url.searchParams.get('state') ?? 'open', url.searchParams.get('head')];
      return { status: 200, value: this.pulls.filter((one) => (state === 'all' || one.state === state) && `owner:${one.head}` === head) };
    }
    if (pull !== undefined) return { status: 200, value: Object.assign(pull, body) };
    const made = { ...(body as { title: string; body: string; head: string; base: string }), number: this.pulls.length + 1 };
    if (this.pulls.some(({ head, state }) => head === made.head && state === 'open'))
      return { status: 422, value: { message: 'A pull request already exists' } };
    const kept = { ...made, state: 'open', merged_at: null, auto_merge: null, node_id: `PR_${made.number}`, html_url: `https://github.test/owner/repo/pull/${made.number}` }; // prettier-ignore
    this.pulls.push(kept);
    return { status: 201, value: kept };
  }
}
