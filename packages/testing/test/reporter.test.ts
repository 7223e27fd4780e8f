import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';

const repository = resolve(import.meta.dirname, '../../..');

/** What is looked at of the report that scripts/test/test.ts sums up. */
interface Report {
  readonly passed: number;
  readonly failed: readonly { readonly name: string }[];
  readonly skipped: readonly { readonly name: string; readonly why: string }[];
}

/** What the reporter of `npm test` writes about one file of tests. */
async function reportOf(text: string): Promise<Report> {
  const dir = await mkdtemp(join(tmpdir(), 'reporter-'));
  try {
    await writeFile(join(dir, 'some.test.js'), text);
    const file = join(dir, 'report.json');
    await execa(
      process.execPath,
      [
        join(repository, 'node_modules/vitest/vitest.mjs'),
        'run',
        '--root',
        dir,
        '--globals',
        '--reporter',
        join(repository, 'scripts/test/reporter.ts'),
      ],
      { cwd: repository, env: { FLATCAR_EXT_TEST_REPORT: file, CI: '' }, reject: false },
    );
    return JSON.parse(await readFile(file, 'utf8')) as Report;
  } finally {
    await rm(dir, { recursive: true });
  }
}

test('a test that is skipped says why, or it fails', async () => {
  const { passed, failed, skipped } = await reportOf(`
    test('runs', () => undefined);
    test('lacks something', ({ skip }) => skip('there is no root'));
    test.skip('is named (skipped: it needs a network)', () => undefined);
    test.skipIf(true)('is silent', () => undefined);
    test.todo('is not written');
    describe.skip('of a group', () => test('is silent, too', () => undefined));`);
  expect(passed).toBe(1);
  expect(skipped.map(({ name, why }) => [name.split(' › ')[1], why])).toEqual([
    ['lacks something', 'there is no root'],
    ['is named (skipped: it needs a network)', 'it needs a network'],
  ]);
  expect(failed.map(({ name }) => name)).toEqual([
    'some.test.js › is silent: skipped without a reason',
    'some.test.js › is not written: skipped without a reason',
    'some.test.js › of a group > is silent, too: skipped without a reason',
  ]);
});
