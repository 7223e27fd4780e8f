import { parseJson } from '@flatcar/core/engine';
import * as v from 'valibot';

/** A level (`read` or `write`) for each scope of a token, such as `issues`. */
const PermissionsSchema = v.record(v.string(), v.string());
export type Permissions = Readonly<v.InferOutput<typeof PermissionsSchema>>;

export interface FakeIssue {
  readonly number: number;
  title: string;
  body: string | null;
  state: 'open' | 'closed';
  state_reason: string | null;
  labels: { name: string }[];
  readonly comments: { body: string }[];
  readonly created_at: string;
  updated_at: string;
  readonly user: { login: string };
}

export interface FakePull {
  readonly number: number;
  title: string;
  body: string | null;
  state: 'open' | 'closed';
  merged_at: string | null;
  labels: { name: string }[];
  readonly comments: { body: string }[];
  readonly head: { ref: string; sha: string; label: string };
  readonly base: { ref: string };
  readonly html_url: string;
  readonly node_id: string;
  auto_merge: object | null;
  readonly created_at: string;
  readonly user: { login: string };
}

/** What the repository's settings allow. */
export interface FakeSettings {
  /** "Allow GitHub Actions to create and approve pull requests": off in a new repository. */
  actionsMayOpenPulls: boolean;
  allowAutoMerge: boolean;
}

/** Everything that a fake GitHub keeps of its one repository. */
export interface FakeState {
  readonly owner: string;
  readonly repository: string;
  /** The bare repository. */
  readonly gitDir: string;
  readonly settings: FakeSettings;
  readonly issues: FakeIssue[];
  readonly pulls: FakePull[];
  readonly labels: Set<string>;
  /** `METHOD path` of every request to the REST API, in order. */
  readonly requests: string[];
  /** `branch` of every push that changed it. */
  readonly pushes: string[];
  /** Requests that this fake has no answer for: what is tested asks for more than is known. */
  readonly unknown: string[];
  /** An answer for a request (`METHOD path`) instead of the usual one. */
  fault: ((request: string) => { status: number; message: string } | undefined) | undefined;
}

/** The permissions of a token: those of the workflow's own (`ghs_repository`) and of an app's (`ghs_app`); undefined for any other. */
export function permissionsOf(token: string): { permissions: Permissions; isApp: boolean } | undefined {
  const [, kind, levels] = /^ghs_(repository|app)\.([\w-]+)$/.exec(token) ?? [];
  if (levels === undefined) return undefined;
  return {
    permissions: parseJson(PermissionsSchema, Buffer.from(levels, 'base64url').toString(), { what: 'token', where: 'Authorization' }),
    isApp: kind === 'app',
  };
}
