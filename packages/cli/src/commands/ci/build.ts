import { parseArch, selectTargets, UserError } from '@flatcar/core';
import type { Command } from 'commander';
import { attempt, outcomeOf } from '../../ci/attempt.ts';
import { JobSchema, parseJson } from '../../ci/job.ts';
import { writeSummary } from '../../ci/summary.ts';

/** Targets by which a build makes payloads of all formats that the job's targets take: what is bound and signed is bound later. */
function payloadTargets(targets: string): string {
  const selected = selectTargets(targets);
  const ddi = selected.find((one) => one !== 'portable' && one.format === 'ddi');
  const squashfs = selected.some((one) => one === 'portable' || one.format === 'squashfs');
  return [...(squashfs ? ['portable'] : []), ...(ddi === undefined || ddi === 'portable' ? [] : [ddi.number])].join(',');
}

/** `ci build`: the payloads of one job. */
export function addBuild(ci: Command, signal: AbortSignal): void {
  ci.command('build')
    .description("build the payloads of one job of plan's matrix; what is published already is left to bind")
    .requiredOption('--job <json>', 'an entry of `include`')
    .requiredOption('--out <dir>', 'where payloads go')
    .option('--outcomes <dir>', 'where the outcome goes, for report', 'outcomes')
    .option('--origin <kind>', 'passed on to build', 'release')
    .addHelpText('after', `\nExamples:\n  flatcar-ext ci build --job "$(jq -c '.include[0]' matrix.json)" --out payloads`)
    .action(async (flags: { job: string; out: string; outcomes: string; origin: string }) => {
      const { writeOutcome } = await import('../../ci/outcome.ts');
      const { extension, architecture, from, versions, targets } = parseJson(JobSchema, flags.job, '--job');
      if (from === 'published') return console.error(`${extension} is published: nothing to build`);
      const args = ['build', ...versions.split(' '), '--arch', parseArch(architecture), '--release', payloadTargets(targets), '--profile', 'release', '--origin', flags.origin, '--out', flags.out]; // prettier-ignore
      const outcome = outcomeOf('build', extension, `${architecture} ${versions}`, await attempt(args, signal));
      await writeOutcome(flags.outcomes, outcome);
      await writeSummary(`${extension}, ${architecture}`, [outcome]);
      if (!outcome.ok) throw new UserError(`${extension} could not be built for ${architecture}`, { next: 'what it said is above' });
    });
}
