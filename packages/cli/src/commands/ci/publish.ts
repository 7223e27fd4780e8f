import { access, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { attempt, outcomeOf } from '../../ci/attempt.ts';
import type { Outcome } from '../../ci/outcome.ts';
import { writeSummary } from '../../ci/summary.ts';

/** Folder with the payload records of an extension, where there is one. */
async function existing(payloads: string | undefined, extension: string): Promise<string[]> {
  if (payloads === undefined) return [];
  const folder = join(payloads, extension, 'payload');
  return access(folder).then(
    () => [folder],
    () => [],
  );
}

/** `ci publish`: each extension's images by itself. */
export function addPublish(ci: Command, signal: AbortSignal): void {
  ci.command('publish')
    .description('publish the images of each extension by itself, so that one that is refused holds back no other')
    .argument('<dir>', 'what ci bind made')
    .option('--payloads <dir>', 'what ci build made: the records of what was bound')
    .requiredOption('--to <where>', 'as of publish')
    .option('--keys <dir>', 'folder of keys')
    .option('--base-url <url>', 'as of publish')
    .option('--outcomes <dir>', 'where outcomes go, for report', 'outcomes')
    .addHelpText('after', '\nExamples:\n  flatcar-ext ci publish images --to s3://extensions --base-url https://extensions.example.org')
    .action(async (dir: string, flags: { payloads?: string; to: string; keys?: string; baseUrl?: string; outcomes: string }) => {
      const { writeOutcome } = await import('../../ci/outcome.ts');
      const outcomes: Outcome[] = [];
      const more = [
        ...(flags.keys === undefined ? [] : ['--keys', flags.keys]),
        ...(flags.baseUrl === undefined ? [] : ['--base-url', flags.baseUrl]),
      ];
      for (const extension of (await readdir(dir).catch(() => [])).toSorted()) {
        const folders = [join(dir, extension), ...(await existing(flags.payloads, extension))];
        const outcome = outcomeOf('publish', extension, '', await attempt(['publish', ...folders, '--to', flags.to, ...more], signal));
        outcomes.push(outcome);
        await writeOutcome(flags.outcomes, outcome);
      }
      await writeSummary('Published', outcomes);
    });
}
