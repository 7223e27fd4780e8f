import { UserError } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { helpText } from '../../help.ts';
import { failureText } from '@flatcar/workspace/ci/run-step';
import { requireLasting, requireMain } from '@flatcar/workspace/ci/publish-guards';
import { pipelinePath } from '@flatcar/workspace/ci/pipeline-path';
import { readMatrix, selectJobs, type Job } from '@flatcar/workspace/ci/job';
import { jobOutcome, writeOutcome, type Outcome } from '@flatcar/workspace/ci/outcome';
import { publishExtension } from '@flatcar/workspace/ci/publish';
import { withRoothashKey } from '@flatcar/workspace/ci/roothash';
import { writeSubjects, type Subject } from '@flatcar/workspace/ci/attestation-subjects';
import { writeOutputs, writeSummary } from '@flatcar/workspace/ci/summary';
import { summaryOf } from '../../output/outcome-table.ts';
import { print, stepOutput, tell } from '../../output/output.ts';
import { keysOption } from '../../published.ts';

interface Flags {
  readonly matrix: string;
  readonly built: string;
  readonly images: string;
  readonly outcomes: string;
  readonly tree: string;
  readonly baseUrl?: string;
  readonly keys?: string;
  readonly keyring?: string;
  readonly assets?: string;
  readonly readFrom?: string;
  readonly checksums?: string;
  readonly extension?: string;
  readonly bindOnly?: boolean;
  readonly firstPublish?: boolean;
  readonly unsigned?: boolean;
  readonly anyBranch?: boolean;
}

/** The arguments of `publish`. */
function publishArgs({ tree, baseUrl, keys, keyring, assets, firstPublish, unsigned }: Flags): string[] {
  const values = { '--tree': tree, '--base-url': baseUrl, '--keys': keys, '--keyring': keyring, '--assets': assets };
  const switches = { '--first-publish': firstPublish, '--unsigned': unsigned };
  return [
    ...Object.entries(values).flatMap(([flag, value = '']) => (value === '' ? [] : [flag, value])),
    ...Object.entries(switches).flatMap(([flag, value]) => (value === true ? [flag] : [])),
  ];
}

/** What becomes of jobs when not even a folder for their images can be made or emptied. */
function failed(jobs: readonly Job[], thrown: unknown, signal: AbortSignal): { outcomes: readonly Outcome[]; added: readonly Subject[] } {
  signal.throwIfAborted();
  const error = failureText(thrown);
  tell(error);
  return { outcomes: jobs.map((job) => jobOutcome('publish', job, error)), added: [] };
}

/** `ci publish`: binds and publishes each extension by itself. */
export function addPublish(ci: Command, signal: AbortSignal): void {
  ci.command('publish')
    .description('bind and publish the images of the jobs of a matrix, one extension after the other')
    .option('--matrix <file>', 'jobs that ci plan wrote', pipelinePath('matrix.json'))
    .option('--built <dir>', 'artifacts of ci build: a folder payload-<id>/ for each job', pipelinePath('built'))
    .requiredOption('--tree <where>', 'as in publish: a folder, or s3://bucket/prefix')
    .option('--base-url <url>', 'as in publish')
    .addOption(keysOption())
    .option('--keyring <file>', 'OpenPGP public keys that verify the tree, and that nodes trust')
    .option('--assets <where>', 'as in publish')
    .option('--read-from <where>', 'read published payloads here, such as from the URL of the tree (default: --tree)')
    .option('--extension <name>', 'only jobs of this extension')
    .option('--bind-only', 'only jobs whose payloads are published already')
    .option('--checksums <dir>', 'write the digests of published files to this folder, as subjects-<n>.sha256')
    .option('--outcomes <dir>', 'write outcomes to this folder, for ci report', pipelinePath('outcomes'))
    .option('--images <dir>', 'bind images in this folder, and remove them once they are published', pipelinePath('images'))
    .option('--first-publish', 'as in publish: create a new tree')
    .option('--unsigned', 'as in publish: publish without a key that is missing')
    .option('--any-branch', 'publish from a branch other than main, in GitHub Actions')
    .addHelpText(
      'after',
      helpText({
        text: [
          'Artifacts of jobs are not trusted: an artifact may have payloads of its own extension and architecture only, and their keys, components, licenses, proofs and tools must be those that this checkout computes. Each extension is published by itself; the command exits with 1 if one failed.',
          'Outputs in a workflow: published (number of images) and subjects (number of files in --checksums, of at most 1024 lines each).',
        ],
        examples: [
          'flatcar-ext ci publish --matrix matrix.json --tree /srv/extensions --keys ~/dev-keys --base-url https://extensions.example.org',
          'flatcar-ext ci publish --extension hardening --tree s3://extensions --base-url https://extensions.example.org --checksums subjects',
        ],
      }),
    )
    .action(async (flags: Flags) => {
      requireMain(flags.anyBranch);
      const { parsePlace } = await import('@flatcar/publish');
      parsePlace(flags.tree, '--tree');
      requireLasting(flags.tree);
      const jobs = selectJobs(await readMatrix(flags.matrix), flags);
      const outcomes: Outcome[] = [];
      const subjects: Subject[] = [];
      const problems: string[] = [];
      await withRoothashKey(flags.keys, async (bindArgs) => {
        const { matrix: _, ...rest } = flags;
        const common = { ...rest, tree: flags.readFrom || flags.tree, bindArgs, publishArgs: publishArgs(flags), output: stepOutput };
        for (const [extension, its] of Map.groupBy(jobs, (job) => job.extension)) {
          const made = await publishExtension(its, common, signal).catch((thrown: unknown) => failed(its, thrown, signal));
          outcomes.push(...made.outcomes);
          subjects.push(...made.added);
          // A disk that is full now may have room again for the next extension.
          try {
            for (const outcome of made.outcomes) await writeOutcome(flags.outcomes, outcome);
            if (flags.checksums !== undefined) await writeSubjects(flags.checksums, subjects);
          } catch (error) {
            problems.push(`${extension}: its outcome cannot be written: ${failureText(error)}`);
          }
        }
      });
      print(summaryOf(outcomes));
      await writeSummary('Published', outcomes);
      await writeOutputs({ published: subjects.length, subjects: Math.ceil(subjects.length / 1024) });
      const failing = new Set(outcomes.filter(({ ok }) => !ok).map(({ extension }) => extension));
      if (failing.size + problems.length > 0)
        throw new UserError([`failed: ${[...failing].join(', ') || 'to write what happened'}`, ...problems].join('\n'), {
          next: 'the reasons are above; the next run tries again',
        });
    });
}
