// What is missing in CI is a failure, not a skip: also under sudo, which hands on no variable unless told to.
import { readdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { inCI } from '../src/levels.ts';

const workflows = resolve(import.meta.dirname, '../../../.github/workflows');

afterEach(() => {
  vi.unstubAllEnvs();
});

test.each([
  ['CI under sudo, without GITHUB_ACTIONS', { CI: 'true', GITHUB_ACTIONS: undefined }, true],
  ['a laptop', { CI: undefined, GITHUB_ACTIONS: undefined }, false],
  ['an empty variable', { CI: '', GITHUB_ACTIONS: undefined }, false],
])('CI is told by the variable that sudo keeps: %s', (_, env, expected) => {
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
  expect(inCI()).toBe(expected);
});

test('every sudo of the workflows that runs tests keeps CI', async () => {
  const names = (await readdir(workflows)).filter((name) => name.endsWith('.yml'));
  const lines = (await Promise.all(names.map((name) => readFile(join(workflows, name), 'utf8')))).flatMap((text) => text.split('\n'));
  const tests = lines.filter((line) => /\bsudo\b.*(?:scripts\/run|npm (?:run )?test|\.ci\/run|vitest)/.test(line));
  expect(tests.length).toBeGreaterThan(0);
  for (const line of tests) expect(line).toMatch(/--preserve-env=(?:\w+,)*CI\b/);
});
