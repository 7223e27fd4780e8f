import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const repository = join(import.meta.dirname, '../../..');
const bad = join(import.meta.dirname, 'helpers/bad-readers.ts');

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'fuzz-test-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

interface Result {
  readonly reader: string;
  readonly inputs: number;
  readonly found: readonly { readonly kind: string; readonly error: string; readonly input: string; readonly again: string }[];
}

/** Runs `npm run fuzz`. */
async function fuzz(...args: readonly string[]) {
  const { exitCode, stdout, stderr } = await execa(process.execPath, ['scripts/fuzz/fuzz.ts', '--save', dir, ...args], {
    cwd: repository,
    reject: false,
  });
  return { exitCode, stdout, stderr };
}

describe('npm run fuzz', () => {
  const strict = ['--readers', bad, '--seconds', '1', '--seed', '1', '--timeout', '2', '--memory', '64'];
  test.each([
    ['loops', 'hang', 'it does not end within 2 seconds'],
    ['waits', 'hang', 'it does not end within 2 seconds'],
    ['throws', 'crash', 'TypeError: not a UserError'],
    ['fills', 'memory', 'the process grew by more than 64 MiB'],
  ])('finds a reader that %s, saves the input and repeats it', async (name, kind, error) => {
    const { exitCode, stdout } = await fuzz(name, ...strict, '--json');
    expect(exitCode).toBe(1);
    const [result] = JSON.parse(stdout) as [Result];
    expect(result).toMatchObject({ reader: name, found: [{ kind, error: expect.stringContaining(error) as string }] });
    const { input = '', again = '' } = result.found[0] ?? {};
    expect(await readFile(input, 'utf8')).not.toBe('ok');
    expect(again).toContain(`npm run fuzz -- ${name} --input `);
    const repeated = await fuzz(name, ...strict, '--input', input);
    expect(repeated).toMatchObject({ exitCode: 1, stdout: expect.stringContaining(`${kind}: ${error}`) as string });
  });
  test('finds nothing in a good one, and prints a table', async () => {
    const { exitCode, stdout } = await fuzz('good', ...strict);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^reader +inputs +hangs +crashes +memory .*\ngood +\d+ +0 +0 +0 /);
  });
  test('refuses a reader that there is not', async () => {
    expect(await fuzz('nothing')).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("unknown reader 'nothing'") as string });
  });
});
