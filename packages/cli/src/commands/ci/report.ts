import { UsageError, UserError, UserErrors, oneLine, plainText, withoutCommands } from '@flatcar/core/engine';
import { Option, type Command } from 'commander';
import { pipelinePath } from '@flatcar/workspace/ci/pipeline-path';
import type { Verdict } from '@flatcar/workspace/ci/issues';
import type { RunReport } from '@flatcar/workspace/ci/report';
import { writeSummary } from '@flatcar/workspace/ci/summary';
import { addHelp } from '../../help.ts';
import { jsonOption } from '../../options.ts';
import { summaryOf } from '../../output/outcome-table.ts';
import { tell } from '../../output/output.ts';
import { show } from '../../output/terminal.ts';

interface Flags {
  readonly workflow: string;
  readonly matrix?: string;
  readonly outcomes: string;
  readonly results?: string;
  readonly json?: boolean;
}

const isFailed = ({ state }: Verdict): boolean => state === 'failed';
const nameOf = ({ extension }: Verdict): string => extension ?? 'the run';

/** What a person reads of a run. */
function text({ verdicts, rejected, held, outcomes }: RunReport): string {
  const failed = verdicts.filter(isFailed);
  const quoted = (error: string): string => withoutCommands(plainText(error)).trimEnd().replaceAll(/^/gm, '    ');
  return [
    ...(outcomes.length === 0 ? [] : [summaryOf(outcomes)]),
    ...held.map(({ job, until, failures }) => `${job.id} is held back until ${until}: it failed ${failures} times`),
    ...rejected.map(({ file, why }) => oneLine(`${file} is not accepted: ${why}`, 500)),
    ...failed.flatMap((verdict) => [
      `${nameOf(verdict)} failed`,
      ...verdict.failures.map(({ what, error }) => `  ${oneLine(what)}\n${quoted(error)}`),
    ]),
    failed.length === 0 ? 'everything that was planned succeeded' : `failed: ${failed.map(nameOf).join(', ')}`,
  ].join('\n');
}

/** Updates the issues of the workflow, if this is one; returns why some could not be updated. */
async function sync(workflow: string, verdicts: readonly Verdict[]): Promise<readonly UserError[]> {
  const [{ githubFrom }, { updateIssues }] = await Promise.all([
    import('@flatcar/workspace/ci/github'),
    import('@flatcar/workspace/ci/report'),
  ]);
  const github = githubFrom(process.env);
  if (github === undefined) return [];
  const { changes, errors } = await updateIssues(github, workflow, verdicts);
  for (const { title, action } of changes) tell(`issue '${title}': ${action}`);
  return errors;
}

/** `ci report`: how a run of a workflow went, and the issues of what failed. */
export function addReport(ci: Command): void {
  const command = ci
    .command('report')
    .description('report how a run of a workflow went, and keep one issue for each extension that fails')
    .requiredOption('--workflow <name>', 'name in the titles of issues: release, update or machines')
    .option('--matrix <file>', 'file that ci plan wrote; each of its jobs must have succeeded in all steps')
    .addOption(new Option('--outcomes <dir>', 'read the outcomes of the steps there').default(pipelinePath('outcomes')))
    .option('--results <json>', 'how the jobs of the workflow ended: ${{ toJSON(needs) }}')
    .addOption(jsonOption())
    .action(async ({ workflow, matrix, outcomes, results, json }: Flags) => {
      const [{ reportRun }, { parseResults }] = await Promise.all([
        import('@flatcar/workspace/ci/report'),
        import('@flatcar/workspace/ci/judge-run'),
      ]);
      if (!/^[a-z][a-z-]*$/.test(workflow))
        throw new UsageError(`'${workflow}' is not a valid name of a workflow`, {
          where: '--workflow',
          next: 'use lowercase letters and dashes',
        });
      const parsed = results === undefined || results.trim() === '' ? undefined : parseResults(results);
      const report = await reportRun({ matrix, outcomes, results: parsed });
      show(report, json, text);
      await writeSummary('All', report.outcomes);
      const failed = report.verdicts.filter(isFailed);
      const errors = [
        ...(failed.length === 0 ? [] : [new UserError(`failed: ${failed.map(nameOf).join(', ')}`, { next: 'a later run tries again' })]),
        ...(await sync(workflow, report.verdicts)),
      ];
      const [first, ...more] = errors;
      if (first !== undefined) throw more.length === 0 ? first : new UserErrors('the run failed', errors);
    });
  addHelp(command, {
    text: [
      "A planned job that ended without an outcome failed, whatever the reason. A failure that no extension's failure explains is reported as the issue '<workflow> run fails'. An issue is closed when everything that was planned for its extension succeeds, and only by the workflow that opened it. With GITHUB_TOKEN (issues: write) and the rest of a workflow's environment, issues are opened, updated, closed and reopened.",
      'Exits with 1 if anything failed.',
    ],
    examples: [
      'flatcar-ext ci report --workflow release --matrix matrix.json --outcomes outcomes',
      'flatcar-ext ci report --workflow update --outcomes outcomes --results "$RESULTS"',
    ],
  });
}
