import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startGitHub, type FakeIssue, type FakePull, type FakeGitHub as Served } from '@flatcar/testing';
import type { GitHub } from '@flatcar/workspace/ci/github';

/** The token of a workflow that may do all that these tests do. */
const TOKEN = `ghs_repository.${Buffer.from('{"contents":"write","issues":"write","pull-requests":"write"}').toString('base64url')}`;

/** The fake GitHub of the workflows' tests, with what tests of single commands look at. */
export class FakeGitHub {
  readonly #served: Served;
  readonly #remove: string | undefined;
  readonly github: GitHub;
  #seen = 0;

  private constructor(served: Served, remove: string | undefined) {
    this.#served = served;
    this.#remove = remove;
    Object.assign(served.state.settings, { actionsMayOpenPulls: true, allowAutoMerge: true });
    const { api, url } = served;
    const where = { api, graphql: `${api}/graphql`, server: url, repository: 'owner/repo', token: TOKEN };
    this.github = { ...where, bot: 'github-actions[bot]', run: `${url}/owner/repo/actions/runs/1` };
  }

  /** Starts it; its repository is `<dir>/repo.git`, in a folder of its own unless specified. */
  static async start(dir?: string): Promise<FakeGitHub> {
    const temp = dir ?? (await mkdtemp(join(tmpdir(), 'fake-github-')));
    return new FakeGitHub(await startGitHub(temp, 'owner', 'repo'), dir === undefined ? temp : undefined);
  }

  async stop(): Promise<void> {
    await this.#served.close();
    if (this.#remove !== undefined) await rm(this.#remove, { recursive: true, force: true });
  }

  get issues(): FakeIssue[] {
    return this.#served.state.issues;
  }
  get pulls(): FakePull[] {
    return this.#served.state.pulls;
  }
  get settings(): Served['state']['settings'] {
    return this.#served.state.settings;
  }

  /** `METHOD path` of all requests since the last look that change something. */
  changes(): string[] {
    const { requests } = this.#served.state;
    const found = requests.slice(this.#seen).filter((one) => !one.startsWith('GET '));
    this.#seen = requests.length;
    return found;
  }

  /** Refuses requests with a status and a message. */
  refuse(which: (method: string, path: string) => [status: number, message: string] | undefined): void {
    this.#served.state.fault = (request) => {
      const [method = '', path = ''] = request.split(' ');
      const [status, message] = which(method, path) ?? [];
      return status === undefined || message === undefined ? undefined : { status, message };
    };
  }

  /** An issue of the workflows' account, as it is kept. */
  issue({ title, body, labels }: { title: string; body: string; labels: readonly string[] }): FakeIssue {
    const now = new Date().toISOString();
    return {
      number: this.issues.length + this.pulls.length + 1,
      title,
      body,
      state: 'open',
      state_reason: null,
      labels: labels.map((name) => ({ name })),
      comments: [],
      created_at: now,
      updated_at: now,
      user: { login: 'github-actions[bot]' },
    };
  }
}
