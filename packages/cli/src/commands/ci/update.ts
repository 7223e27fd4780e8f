import { basename } from 'node:path';
import { componentsOf, findExtensions, loadExtension, UsageError, UserError, withoutSecrets } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { helpText } from '../../help.ts';
import { passedOn, runStep } from '@flatcar/workspace/ci/run-step';
import { pipelinePath } from '@flatcar/workspace/ci/pipeline-path';
import { githubFrom, mutate, type GitHub } from '@flatcar/workspace/ci/github';
import { outcomeOf, type Outcome } from '@flatcar/workspace/ci/outcome';
import type { Proposed } from '@flatcar/workspace/ci/pull-request';
import { writeSummary } from '@flatcar/workspace/ci/summary';
import { summaryOf } from '../../output/outcome-table.ts';
import type { UpdateStep } from '@flatcar/workspace/ci/update';
import { REPOSITORY } from '@flatcar/workspace/select';
import { table } from '../../output/terminal.ts';
import { print, stepOutput, tell } from '../../output/output.ts';

interface Flags {
  readonly outcomes: string;
  readonly limit: string;
  readonly automerge?: boolean;
  readonly dryRun?: boolean;
}

/** True where a component of an extension is pinned in a lock that others may read, too. */
async function sharesLocks(dir: string): Promise<boolean> {
  // A definition that cannot be read fails in its own step, with its own error.
  const loaded = await loadExtension(dir).catch(() => undefined);
  if (loaded === undefined) return false;
  const found = await Promise.all(Object.keys(loaded.pins).map((version) => componentsOf(loaded, version).catch(() => undefined)));
  return found.some((one) => one?.components.some((component) => component.dir !== dir) === true);
}

/** The steps of an update: what is not named is everything. */
async function stepsOf(names: readonly string[], difference: boolean): Promise<UpdateStep[]> {
  const dirs = await findExtensions(REPOSITORY);
  const unknown = names.filter((name) => !dirs.some((dir) => basename(dir) === name));
  if (unknown.length > 0)
    throw new UsageError(`there is no extension '${unknown.join("', '")}'`, {
      next: `there are: ${dirs.map((dir) => basename(dir)).join(', ')}`,
    });
  const chosen = dirs.filter((dir) => names.length === 0 || names.includes(basename(dir)));
  const bumps = chosen.map(async (dir): Promise<UpdateStep> => {
    const name = basename(dir);
    const args = ['bump', name, '--json', ...(difference ? [] : ['--no-diff'])];
    return { name, args, title: `${name}: newer versions`, mayShare: await sharesLocks(dir) };
  });
  const releases = { name: 'releases', args: ['releases', 'update'], title: 'Flatcar releases' };
  return [...(names.length === 0 ? [releases] : []), ...(await Promise.all(bumps))];
}

/** Lets GitHub merge a pull request once its required checks pass, or takes that back. */
async function setAutomerge(github: GitHub, { action, pull }: Proposed, isWanted: boolean): Promise<void> {
  // Where nothing changed, a person may have decided otherwise.
  if (pull?.node_id === undefined || (action !== 'opened' && action !== 'updated')) return;
  const isSet = pull.auto_merge !== null && pull.auto_merge !== undefined;
  if (isWanted === isSet) return;
  // https://docs.github.com/en/graphql/reference/mutations#enablepullrequestautomerge
  if (isWanted)
    await mutate(
      github,
      'mutation($pull: ID!) { enablePullRequestAutoMerge(input: { pullRequestId: $pull, mergeMethod: SQUASH }) { clientMutationId } }',
      { pull: pull.node_id },
    );
  else
    await mutate(github, 'mutation($pull: ID!) { disablePullRequestAutoMerge(input: { pullRequestId: $pull }) { clientMutationId } }', {
      pull: pull.node_id,
    });
}

/** The environment of a step: upstream's releases are read through a port of this machine, so that it needs no token. */
function childEnv(api: string | undefined): Record<string, string> {
  if (api === undefined) return passedOn();
  const env = withoutSecrets();
  const direct = [env['no_proxy'] ?? env['NO_PROXY'] ?? '', '127.0.0.1'].filter((one) => one !== '').join(',');
  // A mirror stands in for all hosts, GitHub's API included.
  if ((env['FLATCAR_EXT_MIRROR'] ?? '') !== '') return env;
  return { ...env, GITHUB_API_URL: api, no_proxy: direct, NO_PROXY: direct };
}

function limitOf(text: string): number {
  const minutes = Number(text);
  if (!(minutes > 0 && minutes <= 24 * 60))
    throw new UsageError(`'${text}' is not a valid time limit`, { where: '--limit', next: 'pass minutes, such as 30' });
  return minutes * 60_000;
}

/** `ci update`: newer versions of each extension by itself. */
export function addUpdate(ci: Command, signal: AbortSignal): void {
  ci.command('update')
    .description('bump each extension by itself, and open a pull request for each')
    .argument('[extensions...]', 'names (default: all, and the catalogue of Flatcar releases)')
    .option('--outcomes <dir>', 'write outcomes to this folder, for ci report', pipelinePath('outcomes'))
    .option('--limit <minutes>', 'time limit of each extension, in minutes', '30')
    .option('--automerge', 'let GitHub merge patch releases that change nothing else; UPDATE_AUTOMERGE=true does the same')
    .option('--dry-run', 'list the steps')
    .addHelpText(
      'after',
      helpText({
        text: [
          "With GITHUB_TOKEN and the rest of a workflow's environment, it opens pull requests from branches update/<name>; elsewhere the changes stay in the checkout. Only extensions/, packages/ and README.md are proposed, and each step starts from a clean checkout. A branch is pushed only if its change differs, and never over commits of others. A pull request that was closed stays closed until there are other versions. Locks that extensions share change in one pull request.",
          "The token is used for git push and for pull requests. Child processes get neither the token nor any key: they read upstream's releases through a port of this machine, which forwards GET requests with the token.",
          "--automerge accepts a patch release if its proofs are no weaker than before, and files, units and host requirements are the same; it builds the images before and after. It needs auto-merge in the repository's settings and required checks on the branch.",
        ],
        examples: ['flatcar-ext ci update kubernetes', 'flatcar-ext ci update --outcomes /tmp/outcomes --limit 60'],
      }),
    )
    .action(async (words: string[], flags: Flags) => {
      const names = words.flatMap((one) => one.split(/\s+/)).filter((one) => one !== '');
      const limit = limitOf(flags.limit);
      const automerge = flags.automerge === true || process.env['UPDATE_AUTOMERGE'] === 'true';
      const steps = await stepsOf(names, automerge);
      if (flags.dryRun === true)
        return print(table([['step', 'command'], ...steps.map(({ name, args }) => [name, `flatcar-ext ${args.join(' ')}`])]));
      const [{ writeOutcome }, { updateAll }, { withReadProxy }] = await Promise.all([
        import('@flatcar/workspace/ci/outcome'),
        import('@flatcar/workspace/ci/update'),
        import('@flatcar/workspace/ci/read-proxy'),
      ]);
      const github = githubFrom(process.env);
      const outcomes: Outcome[] = [];
      const update = (api?: string): Promise<void> =>
        updateAll(steps, {
          dir: REPOSITORY,
          github,
          base: process.env['GITHUB_REF_NAME'] || 'main',
          run: (args) => runStep(args, signal, { output: stepOutput, env: childEnv(api), json: args.includes('--json'), limit }),
          describe: async (step, change, results) => {
            const [{ readBumped }, { pullBody }, { automergeObjections }] = await Promise.all([
              import('@flatcar/workspace/ci/bump-output'),
              import('@flatcar/workspace/ci/pull-body'),
              import('@flatcar/workspace/ci/automerge'),
            ]);
            const bumped = step.name === 'releases' ? [] : results.flatMap(({ stdout }) => readBumped(stdout));
            const objections = automerge ? automergeObjections(step.name, bumped, change.paths) : undefined;
            const command = `flatcar-ext ${step.args.filter((arg) => !arg.startsWith('--')).join(' ')}`.trim();
            const body = pullBody(step.args.length === 0 ? 'flatcar-ext ci update' : command, bumped, objections);
            if (github === undefined || objections === undefined) return { body };
            return { body, after: (proposed) => setAutomerge(github, proposed, objections.length === 0) };
          },
          done: async (name, error) => {
            const outcome = outcomeOf('update', name, '', error);
            outcomes.push(outcome);
            await writeOutcome(flags.outcomes, outcome);
          },
          report: (line) => tell(line),
        });
      try {
        await (github === undefined ? update() : withReadProxy(github, update));
      } finally {
        await writeSummary('Updates', outcomes);
        print(summaryOf(outcomes));
      }
      const failed = outcomes.filter(({ ok }) => !ok).map(({ extension }) => extension);
      if (failed.length > 0) throw new UserError(`could not be updated: ${failed.join(', ')}`, { next: 'the next run tries again' });
    });
}
