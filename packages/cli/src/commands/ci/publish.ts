import { UserError } from '@flatcar/core/engine';
import { Option, type Command } from 'commander';
import { pipelinePath } from '@flatcar/workspace/ci/pipeline-path';
import { readMatrix, selectJobs } from '@flatcar/workspace/ci/job';
import { requireLasting, requireMain } from '@flatcar/workspace/ci/publish-guards';
import { writeOutputs, writeSummary } from '@flatcar/workspace/ci/summary';
import { addHelp } from '../../help.ts';
import { summaryOf } from '../../output/outcome-table.ts';
import { print, stepOutput } from '../../output/output.ts';
import { assetsOption, baseUrlOption, keysOption, rootOption, treeOption } from '../../published.ts';
import { bindOnlyOption, builtOption, extensionOption, matrixOption, outcomesOption } from './options.ts';

interface Flags {
  readonly matrix: string;
  readonly built: string;
  readonly images: string;
  readonly outcomes: string;
  readonly tree: string;
  readonly baseUrl?: string;
  readonly keys?: string;
  readonly keyring?: string;
  readonly root?: string;
  readonly assets?: string;
  readonly readFrom?: string;
  readonly checksums?: string;
  readonly extension?: string;
  readonly bindOnly?: boolean;
  readonly firstPublish?: boolean;
  readonly unsigned?: boolean;
  readonly anyBranch?: boolean;
}

/** `ci publish`: binds and publishes each extension by itself. */
export function addPublish(ci: Command, signal: AbortSignal): void {
  const command = ci
    .command('publish')
    .description('bind and publish the images of the jobs of a matrix, one extension after the other')
    .addOption(matrixOption())
    .addOption(builtOption())
    .addOption(treeOption())
    .addOption(baseUrlOption())
    .addOption(keysOption())
    .addOption(rootOption())
    .option('--keyring <file>', 'more OpenPGP public keys that nodes trust')
    .addOption(assetsOption())
    .addOption(
      new Option('--read-from <where>', 'read published payloads from there, such as the URL of the tree').default(undefined, 'the tree'),
    )
    .addOption(extensionOption())
    .addOption(bindOnlyOption())
    .option('--checksums <dir>', 'write the digests of what was published there, as subjects-<n>.sha256')
    .addOption(outcomesOption())
    .option('--images <dir>', 'bind images there; they are removed once they are published', pipelinePath('images'))
    .option('--first-publish', 'accept a tree without an index: nothing is published there yet')
    .option('--unsigned', 'publish without a key that is missing')
    .option('--any-branch', 'in GitHub Actions, publish from another branch than main')
    .action(async (flags: Flags) => {
      requireMain(flags.anyBranch);
      const [{ parsePlace }, { publishJobs }] = await Promise.all([import('@flatcar/publish'), import('@flatcar/workspace/ci/publish')]);
      parsePlace(flags.tree, '--tree');
      requireLasting(flags.tree);
      const jobs = selectJobs(await readMatrix(flags.matrix), flags);
      const { outcomes, subjects, problems } = await publishJobs(jobs, { ...flags, output: stepOutput }, signal);
      print(summaryOf(outcomes));
      await writeSummary('Published', outcomes);
      await writeOutputs({ published: subjects.length, subjects: Math.ceil(subjects.length / 1024) });
      const failed = new Set(outcomes.filter(({ ok }) => !ok).map(({ extension }) => extension));
      if (failed.size + problems.length > 0)
        throw new UserError([`failed: ${[...failed].join(', ') || 'to write what happened'}`, ...problems].join('\n'), {
          next: 'the reasons are above; the next run tries again',
        });
    });
  addHelp(command, {
    text: [
      'The artifact of a job is not trusted: it may contain payloads of its own extension and architecture only, and their keys, components, licenses, proofs and tools must be those that this checkout computes. An extension that fails stops no other; the command exits with 1 if one fails.',
      'Outputs in a workflow: published (number of images), subjects (number of files in --checksums, of at most 1024 lines each).',
    ],
    examples: [
      'flatcar-ext ci publish --matrix matrix.json --tree /srv/extensions --keys ~/dev-keys --base-url https://extensions.example.org',
      'flatcar-ext ci publish --extension hardening --tree s3://extensions --base-url https://extensions.example.org --checksums subjects',
    ],
  });
}
