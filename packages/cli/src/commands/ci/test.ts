import { exec, UserError } from '@flatcar/core';
import type { Command } from 'commander';
import * as v from 'valibot';
import { passedOn } from '../../ci/attempt.ts';
import { REPOSITORY } from '../../options.ts';

/** The extensions that a change since `base` can have an effect on, by turbo; all when the tests' own packages changed. */
async function affectedExtensions(base: string): Promise<string[]> {
  const said = await exec('turbo', ['ls', '--affected', '--output=json'], {
    cwd: REPOSITORY,
    env: { ...passedOn(), TURBO_SCM_BASE: base, TURBO_TELEMETRY_DISABLED: '1' },
  });
  const { packages } = v.parse(
    v.object({ packages: v.object({ items: v.array(v.object({ name: v.string(), path: v.string() })) }) }),
    JSON.parse(said),
  );
  return packages.items.map(({ path }) => path).filter((path) => path.startsWith('extensions/')).toSorted(); // prettier-ignore
}

/** `ci test`: the merge tests that a change has an effect on. */
export function addTest(ci: Command, signal: AbortSignal): void {
  ci.command('test')
    .description('run the merge tests of the extensions that a change has an effect on')
    .requiredOption('--base <ref>', 'what it is a change of, such as origin/main')
    .option('--dry-run', 'say which')
    .addHelpText('after', '\nExamples:\n  flatcar-ext ci test --base origin/main --dry-run')
    .action(async (flags: { base: string; dryRun?: boolean }) => {
      const folders = await affectedExtensions(flags.base);
      console.log(folders.length === 0 ? 'no extension is affected' : folders.join('\n'));
      if (folders.length === 0 || flags.dryRun === true) return;
      const { execa } = await import('execa');
      const { exitCode } = await execa('vitest', ['run', '--project', 'merge', ...folders.map((one) => `${one}/`)], { cwd: REPOSITORY, stdio: 'inherit', reject: false, cancelSignal: signal }); // prettier-ignore
      if (exitCode !== 0) throw new UserError('merge tests failed', { next: 'what they said is above' });
    });
}
