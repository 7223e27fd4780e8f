import { join } from 'node:path';
import { reap, UserError, withoutSecrets } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { REPOSITORY } from '@flatcar/workspace/select';
import { addHelp } from '../../help.ts';

/** `ci test`: what `npm run test:affected` runs, for workflows. */
export function addTest(ci: Command, signal: AbortSignal): void {
  const command = ci
    .command('test')
    .description('run the tests that every change must pass, and all tests that this change affects (npm run test:affected)')
    .requiredOption('--base <ref>', 'commit that the change started from, such as origin/main')
    .option('--dry-run', 'list what would run')
    .action(async ({ base, dryRun = false }: { base: string; dryRun?: boolean }) => {
      const { execa } = await import('execa');
      const args = ['node', 'scripts/test/test.ts', '--affected', '--base', base, ...(dryRun ? ['--dry-run'] : [])];
      const child = execa(join(REPOSITORY, 'scripts/run'), args, {
        cwd: REPOSITORY,
        extendEnv: false,
        env: withoutSecrets(),
        stdio: 'inherit',
        reject: false,
        cancelSignal: signal,
        forceKillAfterDelay: 700, // milliseconds
      });
      const ended = child.pid === undefined ? undefined : reap(child.pid);
      const { exitCode } = await child;
      ended?.();
      if (exitCode !== 0) throw new UserError('tests failed', { next: 'each failure is described above' });
    });
  addHelp(command, {
    examples: ['flatcar-ext ci test --base origin/main', 'flatcar-ext ci test --base origin/main --dry-run'],
  });
}
