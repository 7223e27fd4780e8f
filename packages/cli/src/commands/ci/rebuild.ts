import { glob, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec, hostArch, newestFirst, openStore, sidecarPaths, UserError, withoutSecrets, parseJson } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { helpText } from '../../help.ts';
import * as v from 'valibot';
import { attempt, failureText, runProgram } from '@flatcar/workspace/ci/run-step';
import { pipelinePath } from '@flatcar/workspace/ci/pipeline-path';
import { outcomeOf, writeOutcome, type Outcome } from '@flatcar/workspace/ci/outcome';
import { writeSummary } from '@flatcar/workspace/ci/summary';
import { summaryOf } from '../../output/outcome-table.ts';
import { REPOSITORY } from '@flatcar/workspace/select';
import { print, stepOutput, tell } from '../../output/output.ts';

interface Flags {
  readonly tree: string;
  readonly keyring: string;
  readonly outcomes: string;
}

const Provenance = v.object({
  predicate: v.object({
    buildDefinition: v.object({ resolvedDependencies: v.array(v.object({ digest: v.object({ gitCommit: v.optional(v.string()) }) })) }),
  }),
});

/** The commit that an image says it was built from; the replacement of a withdrawn version was built by none. */
async function commitOf(image: string): Promise<string | undefined> {
  const { provenance } = sidecarPaths(image);
  const { predicate } = parseJson(Provenance, await readFile(provenance, 'utf8'), { what: 'build record', where: provenance });
  const commit = predicate.buildDefinition.resolvedDependencies.map(({ digest }) => digest.gitCommit).find((one) => one !== undefined);
  return commit !== undefined && /^[0-9a-f]{40}$/.test(commit) ? commit : undefined;
}

/** The newest of these images that names the commit that it was built from. */
async function newestBuilt(images: readonly string[], tree: string): Promise<{ image: string; commit: string } | undefined> {
  for (const name of newestFirst(images)) {
    const image = join(tree, name);
    const commit = await commitOf(image);
    if (commit !== undefined) return { image, commit };
  }
  return undefined;
}

/** Builds the newest portable image of an extension again, by the code and the pins of the commit that it was built from; gives what failed. */
async function rebuild(name: string, { tree: published, keyring }: Flags, temp: string, signal: AbortSignal): Promise<string | undefined> {
  const tree = join(temp, 'tree');
  const where = ['--tree', published, '--to', tree, '--keyring', keyring, '--base-url', 'http://localhost'];
  const args = ['mirror', name, ...where, '--release', 'portable', '--arch', hostArch()];
  const error = await attempt(args, signal, { output: stepOutput, env: withoutSecrets() });
  if (error !== undefined) return error;
  const images = await Array.fromAsync(glob(`${name}/portable/*.raw`, { cwd: tree }));
  const newest = await newestBuilt(images, tree);
  if (newest === undefined) return `${name} has no portable image for ${hostArch()} in ${published} that names its commit`;
  const { image, commit } = newest;
  const checkout = join(temp, 'checkout');
  await exec('git', ['worktree', 'add', '--quiet', '--detach', checkout, commit], { cwd: REPOSITORY });
  try {
    // In its own folder: flatcar-ext refuses to work on one checkout from within another.
    const script = 'cd "$1" && exec scripts/run flatcar-ext verify --rebuild "$2"';
    return (await runProgram('sh', ['-c', script, 'sh', checkout, image], signal, { output: stepOutput, env: withoutSecrets() })).error;
  } finally {
    await exec('git', ['worktree', 'remove', '--force', checkout], { cwd: REPOSITORY });
  }
}

/** `ci rebuild`: whether published images can be made again from nothing. */
export function addRebuild(ci: Command, signal: AbortSignal): void {
  ci.command('rebuild')
    .description('build published images again from the commits that they were built from, and compare the bytes')
    .argument('<extensions...>', 'names')
    .requiredOption('--tree <where>', 'the published tree: a folder, https://… or s3://bucket/prefix')
    .requiredOption('--keyring <file>', 'OpenPGP public keys that verify the published index')
    .option('--outcomes <dir>', 'write outcomes to this folder, for ci report', pipelinePath('outcomes'))
    .addHelpText(
      'after',
      helpText({
        text: [
          "Builds the newest portable image of each extension for this machine's architecture. Its commit must be in the history of this checkout.",
        ],
        examples: [
          'flatcar-ext ci rebuild yq --tree https://extensions.example.org --keyring keys.gpg',
          'flatcar-ext ci rebuild yq hardening --tree /srv/extensions --keyring keys.gpg',
        ],
      }),
    )
    .action(async (words: string[], flags: Flags) => {
      const names = words.flatMap((one) => one.split(/\s+/)).filter((one) => one !== '');
      const outcomes: Outcome[] = [];
      for (const name of names) {
        const error = await openStore()
          .withTemp((temp) => rebuild(name, flags, temp, signal))
          .catch(failureText);
        signal.throwIfAborted();
        if (error !== undefined) tell(`${name}: ${error}`);
        const outcome = outcomeOf('rebuild', name, hostArch(), error);
        outcomes.push(outcome);
        await writeOutcome(flags.outcomes, outcome);
      }
      print(summaryOf(outcomes));
      await writeSummary('Rebuilt', outcomes);
      const failed = outcomes.filter(({ ok }) => !ok).map(({ extension }) => extension);
      if (failed.length > 0) throw new UserError(`could not be built again: ${failed.join(', ')}`, { next: 'the reasons are above' });
    });
}
