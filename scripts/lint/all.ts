// `npm run lint`: all checks of the sources, one after the other; all of them run, even if one fails.
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';

interface Check {
  readonly command: readonly [string, ...string[]];
  /** What to do if it fails, besides reading its output. */
  readonly next: string;
}

const CHECKS: readonly Check[] = [
  { command: ['oxlint'], next: 'npm run fix corrects some of it' },
  { command: ['oxfmt', '--check', '.'], next: 'npm run fix formats' },
  { command: ['tsc', '-p', '.'], next: 'correct the types' },
  { command: ['tsc', '-p', 'packages/site/app'], next: 'correct the types of the catalogue page' },
  { command: ['turbo', 'boundaries'], next: 'declare the package as a dependency in package.json, or do without it' },
  { command: ['node', 'scripts/lint/layers.ts'], next: 'move the code to the layer that it belongs to (docs/architecture.md)' },
  { command: ['node', 'scripts/lint/scripts.ts'], next: 'correct the script or the workflow' },
  { command: ['flatcar-ext', 'docs', '--check'], next: 'flatcar-ext docs writes the READMEs' },
];

const failed: string[] = [];
for (const { command, next } of CHECKS) {
  const [program, ...args] = command;
  const { status, signal, error } = spawnSync(program, args, { cwd: resolve(import.meta.dirname, '../..'), stdio: 'inherit' });
  // Ctrl-C ends all of it.
  if (signal === 'SIGINT' || signal === 'SIGTERM') process.exit(130);
  if (status !== 0) failed.push(`${command.join(' ')}: ${error === undefined ? next : error.message}`);
}
if (failed.length > 0) {
  console.error(`\n${failed.length} of ${CHECKS.length} checks failed:\n${failed.map((one) => `  ${one}`).join('\n')}`);
  process.exitCode = 1;
}
