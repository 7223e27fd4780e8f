import { UserError, readRecord, record } from '@flatcar/core/engine';
import * as v from 'valibot';
import type { Change } from './checkout.ts';
import { ask, askAll, GitHubError, type GitHub } from './github.ts';
import type { Remote } from './remote.ts';

const Pull = v.object({
  number: v.number(),
  node_id: v.optional(v.string()),
  html_url: v.string(),
  state: v.string(),
  title: v.string(),
  body: v.nullish(v.string(), ''),
  merged_at: v.nullish(v.string()),
  auto_merge: v.nullish(v.unknown()),
});
type Pull = v.InferOutput<typeof Pull>;

const RECORD = 'flatcar-ext-update';
const Recorded = v.object({ v: v.literal(1), versions: v.string() });
/** The most characters of a body; GitHub accepts 65,536. */
const LONGEST = 60_000;

/** A pull request to open or to update. */
export interface Proposal {
  readonly branch: string;
  readonly base: string;
  readonly title: string;
  /** Markdown. */
  readonly body: string;
  readonly change: Change;
}

/** The result of a proposal. */
export interface Proposed {
  /**
   * `opened`; `updated`: the open pull request has the change now; `same`: it already had the change; `unwanted`: a person closed one with the
   * same versions; `stranger`: the branch has commits of somebody else, and is not touched.
   */
  readonly action: 'opened' | 'updated' | 'same' | 'unwanted' | 'stranger';
  readonly text: string;
  readonly pull?: Pull;
}

const versionsIn = ({ body }: Pull): string | undefined => {
  const recorded = v.safeParse(Recorded, readRecord(RECORD, body ?? ''));
  return recorded.success ? recorded.output.versions : undefined;
};

async function openPull(github: GitHub, { branch, base, title }: Proposal, body: string): Promise<Pull> {
  try {
    return await ask(github, 'POST', '/pulls', Pull, { title, body, head: branch, base });
  } catch (error) {
    if (!(error instanceof GitHubError) || error.status !== 403) throw error;
    throw new UserError(`GitHub does not let this job open pull requests: ${error.message}`, {
      where: `${github.server}/${github.repository}/settings/actions`,
      next: 'allow GitHub Actions to create and approve pull requests (Settings, Actions, General), or give the workflow the key of an app',
      code: 'pulls-refused', // of any extension
      cause: error,
    });
  }
}

/**
 * Keeps one pull request for a change, on a branch of its own. The branch is pushed only if its content differs, and never over commits of
 * somebody else. A pull request that was closed unmerged stays closed until there are other versions.
 */
export async function propose(github: GitHub, remote: Remote, proposal: Proposal): Promise<Proposed> {
  const { branch, title, change } = proposal;
  if (!/^[a-z0-9][a-z0-9./-]*$/.test(branch) || branch.includes('..')) throw new UserError(`'${branch}' is not a valid branch name`);
  const [owner = ''] = github.repository.split('/');
  const pulls = await askAll(github, `/pulls?state=all&head=${encodeURIComponent(`${owner}:${branch}`)}`, Pull);
  const open = pulls.find(({ state }) => state === 'open');
  const tip = await remote.tip(branch);
  if (tip?.stranger !== undefined)
    return {
      action: 'stranger',
      text: `${branch} has commits of ${tip.stranger}, and is not touched`,
      pull: open,
    };
  const unwanted =
    open === undefined ? pulls.find((one) => typeof one.merged_at !== 'string' && versionsIn(one) === change.versions) : undefined;
  if (unwanted !== undefined)
    return { action: 'unwanted', text: `${unwanted.html_url} was closed with the same versions; it stays closed`, pull: unwanted };

  const isSame = tip?.content === change.content;
  if (!isSame) await remote.push(branch, change.commit, tip?.commit);
  const body = `${proposal.body.slice(0, LONGEST).trimEnd()}\n\n${record(RECORD, { v: 1, versions: change.versions })}\n`;
  if (open === undefined) {
    const pull = await openPull(github, proposal, body);
    return { action: 'opened', text: pull.html_url, pull };
  }
  const isToldSo = open.title === title && (open.body ?? '').replaceAll('\r\n', '\n').trim() === body.trim();
  if (!isToldSo) await ask(github, 'PATCH', `/pulls/${open.number}`, v.unknown(), { title, body });
  return isSame && isToldSo
    ? { action: 'same', text: `${open.html_url} already has these versions`, pull: open }
    : { action: 'updated', text: open.html_url, pull: open };
}
