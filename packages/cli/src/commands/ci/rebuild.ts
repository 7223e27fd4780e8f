import { UserError } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { writeSummary } from '@flatcar/workspace/ci/summary';
import { addHelp } from '../../help.ts';
import { rootOption } from '../../published.ts';
import { summaryOf } from '../../output/outcome-table.ts';
import { print, stepOutput } from '../../output/output.ts';
import { failedOf, namesIn, outcomesOption } from './options.ts';

interface Flags {
  readonly tree: string;
  readonly root: string;
  readonly outcomes: string;
}

/** `ci rebuild`: whether published images are reproducible. */
export function addRebuild(ci: Command, signal: AbortSignal): void {
  const command = ci
    .command('rebuild')
    .description('build published images again, from the commits in their build records, and compare the bytes')
    .argument('<extensions...>', 'names')
    .requiredOption('--tree <where>', 'the published tree: a URL or a folder')
    .addOption(rootOption().makeOptionMandatory())
    .addOption(outcomesOption())
    .action(async (words: string[], flags: Flags) => {
      const { rebuildPublished } = await import('@flatcar/workspace/ci/rebuild');
      const outcomes = await rebuildPublished(namesIn(words), { ...flags, output: stepOutput }, signal);
      print(summaryOf(outcomes));
      await writeSummary('Rebuilt', outcomes);
      const failed = failedOf(outcomes);
      if (failed.length > 0) throw new UserError(`could not be built again: ${failed.join(', ')}`, { next: 'the reasons are above' });
    });
  addHelp(command, {
    text: [
      "Of each extension the newest portable image for this machine's architecture is built. Its commit must be in the history of this checkout.",
    ],
    examples: [
      'flatcar-ext ci rebuild yq --tree https://extensions.example.org --root root.json',
      'flatcar-ext ci rebuild yq hardening --tree /srv/extensions --root root.json',
    ],
  });
}
