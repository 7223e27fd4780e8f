import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

// `npm run lint` with stand-ins for the tools, which end as they are told: what it does with their results.
const script = resolve(import.meta.dirname, '../../../scripts/lint/all.ts');
const CHECKS = ['oxlint', 'oxfmt', 'tsc', 'tsc', 'turbo', 'node', 'node', 'flatcar-ext'];
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lint-all-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function run(failing: readonly string[]): { status: number | null; stderr: string; ran: string[] } {
  for (const tool of CHECKS) {
    writeFileSync(join(dir, tool), `#!/bin/sh\necho ${tool} >>'${dir}/ran'\nexit ${failing.includes(tool) ? 1 : 0}\n`);
    chmodSync(join(dir, tool), 0o755);
  }
  const { status, stderr } = spawnSync(process.execPath, [script], { encoding: 'utf8', env: { PATH: `${dir}:/usr/bin:/bin` } });
  return { status, stderr, ran: readFileSync(join(dir, 'ran'), 'utf8').trim().split('\n') };
}

test('all tools run, and all that failed are named at the end with what to do', () => {
  const { status, stderr, ran } = run(['oxlint', 'oxfmt', 'flatcar-ext']);
  expect(ran).toEqual(CHECKS);
  expect(status).toBe(1);
  expect(stderr).toMatch(
    /3 of 8 checks failed:\n {2}oxlint: .*\n {2}oxfmt --check \.: npm run fix formats\n {2}flatcar-ext docs --check: /,
  );
});
test('nothing failed', () => expect(run([])).toMatchObject({ status: 0, ran: CHECKS }));
