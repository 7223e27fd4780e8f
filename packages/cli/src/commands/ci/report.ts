import { basename, resolve } from 'node:path';
import { findExtensions, messageOf, oneLine, plainText, UsageError, UserError, UserErrors, withoutCommands } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { helpText } from '../../help.ts';
import { pipelinePath } from '@flatcar/workspace/ci/pipeline-path';
import type { IssueChange, Verdict } from '@flatcar/workspace/ci/issues';
import type { Matrix } from '@flatcar/workspace/ci/job';
import { writeSummary } from '@flatcar/workspace/ci/summary';
import { summaryOf } from '../../output/outcome-table.ts';
import type { Judgement, Results } from '@flatcar/workspace/ci/verdict';
import { REPOSITORY } from '@flatcar/workspace/select';
import { show } from '../../output/terminal.ts';
import { tell } from '../../output/output.ts';

interface Flags {
  readonly workflow: string;
  readonly matrix?: string;
  readonly outcomes: string;
  readonly results?: string;
  readonly json?: boolean;
}

/** Steps of update.yml that are no extension. */
const OTHERS = ['releases', 'shared-components'];

/** The plan of a run; where a job of the workflow made none, that is what failed. */
async function planOf({ matrix }: Flags, results: Results | undefined): Promise<{ plan?: Matrix; planError?: string }> {
  const planned = results?.['plan']?.result ?? 'success';
  if (matrix === undefined || matrix === '' || planned !== 'success') return {};
  const { readPlan } = await import('@flatcar/workspace/ci/job');
  return readPlan(resolve(matrix)).then(
    (plan) => ({ plan }),
    (error: unknown) => ({ planError: messageOf(error) }),
  );
}

/** What a person reads of a run. */
function text({ verdicts, rejected, held, outcomes }: Judgement & ReportedFinding): string {
  const failed = verdicts.filter(({ state }) => state === 'failed');
  const quoted = (error: string): string => withoutCommands(plainText(error)).trimEnd().replaceAll(/^/gm, '    ');
  return [
    ...(outcomes.length === 0 ? [] : [summaryOf(outcomes)]),
    ...held.map(({ job, until, failures }) => `${job.id} is held back until ${until}: it failed ${failures} times`),
    ...rejected.map(({ file, why }) => oneLine(`${file} does not count: ${why}`, 500)),
    ...failed.flatMap(({ extension, failures }) => [
      `${extension ?? 'the run'} failed`,
      ...failures.map(({ what, error }) => `  ${oneLine(what)}\n${quoted(error)}`),
    ]),
    failed.length === 0 ? 'everything that was planned went well' : `failed: ${namesOf(failed).join(', ')}`,
  ].join('\n');
}

interface ReportedFinding {
  readonly held: Matrix['held'];
  readonly outcomes: Parameters<typeof summaryOf>[0];
}

const namesOf = (verdicts: readonly Verdict[]): string[] => verdicts.map(({ extension }) => extension ?? 'the run');

async function sync(workflow: string, verdicts: readonly Verdict[]): Promise<UserError[]> {
  const [{ githubFrom }, { syncIssues }] = await Promise.all([
    import('@flatcar/workspace/ci/github'),
    import('@flatcar/workspace/ci/issues'),
  ]);
  const github = githubFrom(process.env);
  if (github === undefined) return [];
  const changes: readonly IssueChange[] | UserError = await syncIssues(github, workflow, verdicts).catch(
    (error: unknown) =>
      new UserError(`the issues cannot be read: ${messageOf(error)}`, { next: 'the job needs the permission issues: write' }),
  );
  if (changes instanceof UserError) return [changes];
  for (const { title, action } of changes) if (action !== 'failed') tell(`issue '${title}': ${action}`);
  return changes.flatMap(({ title, error }) =>
    error === undefined ? [] : [new UserError(`the issue '${title}' is not up to date: ${error}`)],
  );
}

/** `ci report`: how a run of a workflow went, and the issues of what fails. */
export function addReport(ci: Command): void {
  ci.command('report')
    .description('report how a run of a workflow went, and keep one issue for each extension that fails')
    .requiredOption('--workflow <name>', 'name in the titles of issues: release, update or machines')
    .option('--matrix <file>', 'jobs that ci plan wrote; all steps of each must have succeeded')
    .option('--outcomes <dir>', 'read the outcomes of the steps from this folder', pipelinePath('outcomes'))
    .option('--results <json>', 'how the jobs of the workflow ended: ${{ toJSON(needs) }}')
    .option('--json', 'print the result as JSON')
    .addHelpText(
      'after',
      helpText({
        text: [
          "A planned job without an outcome failed. A failure of no extension is reported as the issue '<workflow> run fails'. An issue is closed when everything that was planned for its extension succeeded, by the workflow that opened it. With GITHUB_TOKEN (issues: write) and the rest of a workflow's environment, it opens, updates, closes and reopens issues.",
          'Exits with 1 if anything failed.',
        ],
        examples: [
          'flatcar-ext ci report --workflow release --matrix matrix.json --outcomes outcomes',
          'flatcar-ext ci report --workflow update --outcomes outcomes --results "$RESULTS"',
        ],
      }),
    )
    .action(async (flags: Flags) => {
      const [{ readOutcomes }, { reportFindings, parseResults }, { inputsOf }] = await Promise.all([
        import('@flatcar/workspace/ci/outcome'),
        import('@flatcar/workspace/ci/verdict'),
        import('@flatcar/workspace/ci/backoff'),
      ]);
      if (!/^[a-z][a-z-]*$/.test(flags.workflow))
        throw new UsageError(`'${flags.workflow}' is not a valid name of a workflow`, {
          where: '--workflow',
          next: 'use lowercase letters and dashes',
        });
      const results = flags.results === undefined || flags.results.trim() === '' ? undefined : parseResults(flags.results);
      const { plan, planError } = await planOf(flags, results);
      const { outcomes, rejected } = await readOutcomes(resolve(flags.outcomes));
      const held = plan?.held ?? [];
      const evidence = {
        jobs: plan?.include,
        planError,
        outcomes,
        rejected,
        results,
        known: new Set([...(await findExtensions(REPOSITORY)).map((dir) => basename(dir)), ...OTHERS]),
        inputs: plan === undefined ? undefined : await inputsOf(REPOSITORY, [...plan.include, ...held.map(({ job }) => job)]),
        now: new Date(),
      };
      const judgement = reportFindings(plan === undefined ? evidence : { ...evidence, held });
      show({ ...judgement, held, outcomes }, flags.json, text);
      await writeSummary('All', outcomes);
      const errors = await sync(flags.workflow, judgement.verdicts);
      const failed = judgement.verdicts.filter(({ state }) => state === 'failed');
      if (failed.length > 0) errors.unshift(new UserError(`failed: ${namesOf(failed).join(', ')}`, { next: 'a later run tries again' }));
      const [first, ...more] = errors;
      if (first !== undefined) throw more.length === 0 ? first : new UserErrors('the run failed', errors);
    });
}
