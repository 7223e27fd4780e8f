import { messageOf, codeBlock, inlineCode } from '@flatcar/core/engine';
import * as v from 'valibot';
import { ask, askAll, type GitHub } from './github.ts';

const LABEL = 'extension-failure';
const IssueSchema = v.object({
  number: v.number(),
  title: v.string(),
  body: v.nullish(v.string(), ''),
  state: v.string(),
  user: v.nullish(v.object({ login: v.string() })),
  pull_request: v.optional(v.unknown()),
});

/** The most characters of an issue; GitHub accepts 65,536. */
const LONGEST = 60_000;
/** The most failures that an issue shows. */
const SHOWN = 40;

/** An issue that a workflow opened. */
export interface Issue {
  readonly number: number;
  readonly state: string;
  readonly body: string;
  /** The extension that fails; undefined for an issue about the workflow's runs. */
  readonly extension: string | undefined;
}

/** The title of the issue for an extension that fails in a workflow, or for runs that fail as a whole. */
export const titleOf = (workflow: string, extension: string | undefined): string =>
  extension === undefined ? `${workflow} run fails` : `${extension}: ${workflow} fails`;

function extensionIn(title: string, workflow: string): { extension: string | undefined } | undefined {
  if (title === titleOf(workflow, undefined)) return { extension: undefined };
  const [, extension] = /^([a-z][a-z0-9-]*): /.exec(title) ?? [];
  return extension !== undefined && title === titleOf(workflow, extension) ? { extension } : undefined;
}

/**
 * The issues that a workflow opened, the newest first, open and closed. Only those with the label and by the workflow's own account count:
 * anybody may open an issue with such a title.
 */
export async function readIssues(github: GitHub, workflow: string): Promise<Issue[]> {
  const all = await askAll(github, `/issues?state=all&labels=${LABEL}`, IssueSchema);
  return all
    .filter(({ user, pull_request: pull }) => user?.login === github.bot && pull === undefined)
    .flatMap(({ number, title, state, body }) => {
      const about = extensionIn(title, workflow);
      return about === undefined ? [] : [{ number, state, body: body ?? '', ...about }];
    })
    .toSorted((a, b) => b.number - a.number);
}

/** How a workflow went for one extension, or as a whole. */
export interface Verdict {
  readonly extension: string | undefined;
  /** `ok`: everything that was planned succeeded. `held`: everything except builds that were not started. */
  readonly state: 'ok' | 'failed' | 'held';
  readonly failures: readonly { readonly what: string; readonly error: string }[];
  /** The record for the next run, from the former text of the issue. */
  readonly remember?: (before: string) => string;
}

/** A change of an issue. */
export interface IssueChange {
  readonly title: string;
  readonly action: 'opened' | 'reopened' | 'updated' | 'closed' | 'failed';
  readonly error?: string;
}

function bodyOf({ extension, failures, remember }: Verdict, run: string, before: string): string {
  const remembered = remember?.(before) ?? '';
  const shown = failures.slice(0, SHOWN);
  const next = extension === undefined ? '' : ' Other extensions are not affected.';
  const head = `Last failed run: ${run}. A later run tries again.${next} The first run in which everything succeeds closes this issue.`;
  const room = Math.floor((LONGEST - head.length - remembered.length) / Math.max(shown.length, 1)) - 50;
  return [
    head,
    ...shown.map(({ what, error }) => {
      const title = `**${inlineCode(what)}**`;
      return `${title}\n\n${codeBlock(error, Math.max(room - title.length, 200))}`;
    }),
    ...(failures.length > SHOWN ? [`${failures.length - SHOWN} more failures are on the page of the run.`] : []),
    ...(remembered === '' ? [] : [remembered]),
  ].join('\n\n');
}

async function sync(github: GitHub, title: string, verdict: Verdict, its: readonly Issue[]): Promise<IssueChange['action'] | undefined> {
  const open = its.find(({ state }) => state === 'open');
  if (verdict.state === 'held') return undefined;
  if (verdict.state === 'ok') {
    if (open === undefined) return undefined;
    await ask(github, 'POST', `/issues/${open.number}/comments`, v.unknown(), { body: `Succeeded again: ${github.run}` });
    await ask(github, 'PATCH', `/issues/${open.number}`, v.unknown(), { state: 'closed', state_reason: 'completed' });
    return 'closed';
  }
  const body = bodyOf(verdict, github.run, open?.body ?? '');
  if (open !== undefined) {
    await ask(github, 'PATCH', `/issues/${open.number}`, v.unknown(), { body });
    return 'updated';
  }
  const [closed] = its;
  if (closed === undefined) {
    await ask(github, 'POST', '/issues', v.unknown(), { title, body, labels: [LABEL] });
    return 'opened';
  }
  await ask(github, 'PATCH', `/issues/${closed.number}`, v.unknown(), { state: 'open', body });
  await ask(github, 'POST', `/issues/${closed.number}/comments`, v.unknown(), { body: `Failed again: ${github.run}` });
  return 'reopened';
}

/**
 * Keeps one open issue for each extension that fails in a workflow, and closes those of extensions that succeed. Issues of other workflows and
 * of extensions that this run did not plan stay unchanged. An error of GitHub concerns one issue, not the others.
 */
export async function syncIssues(github: GitHub, workflow: string, verdicts: readonly Verdict[]): Promise<IssueChange[]> {
  if (verdicts.length === 0) return [];
  const issues = await readIssues(github, workflow);
  const changes: IssueChange[] = [];
  for (const verdict of verdicts) {
    const title = titleOf(workflow, verdict.extension);
    try {
      const action = await sync(
        github,
        title,
        verdict,
        issues.filter(({ extension }) => extension === verdict.extension),
      );
      if (action !== undefined) changes.push({ title, action });
    } catch (error) {
      changes.push({ title, action: 'failed', error: messageOf(error) });
    }
  }
  return changes;
}
