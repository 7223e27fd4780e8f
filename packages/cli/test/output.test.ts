import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync } from 'node:fs';
import { resolve } from 'node:path';
import { UserError, UserErrors } from '@flatcar/core/engine';
import { describe, expect, test } from 'vitest';
import { explanation } from '../src/output/explanation.ts';

const bin = resolve(import.meta.dirname, '../bin/flatcar-ext');

/** Runs the command line with standard output in a file, and gives its exit code and standard error. */
async function into(
  file: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ code: unknown; err: string }> {
  const out = openSync(file, 'w');
  try {
    const child = spawn(bin, args, { stdio: ['ignore', out, 'pipe'], env: { ...process.env, FORCE_COLOR: '0', ...env } });
    let err = '';
    child.stderr?.on('data', (chunk: Buffer) => (err += chunk.toString()));
    const [code] = (await once(child, 'close')) as unknown[];
    return { code, err };
  } finally {
    closeSync(out);
  }
}

describe('output that cannot be written is an error', () => {
  test.for([
    ['list'],
    ['list', '--json'],
    ['releases'],
    ['explain'],
    ['explain', '--json'],
    ['--help'],
    ['build', '--help'],
    ['help', 'bind'],
  ])('flatcar-ext %s', async (args, { skip }) => {
    skip(!existsSync('/dev/full'), 'there is no /dev/full');
    const { code, err } = await into('/dev/full', args);
    expect(err).toMatch(/cannot write the output: no space left/);
    expect(err).not.toMatch(/please report|\n\s+at .*:\d+:\d+/);
    expect(code).toBe(1);
  });
});

test('a reader that has gone away is no error', async () => {
  for (const args of ['list', '--help', 'list --json']) {
    const child = spawn('sh', ['-c', `{ '${bin}' ${args}; echo "code $?" >&2; } | true`], { stdio: ['ignore', 'ignore', 'pipe'] });
    let err = '';
    child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
    await once(child, 'close');
    expect(err).toBe('code 0\n');
  }
});

test('an error is shown down to its leaves, and only our own defects ask to be reported', () => {
  const full = Object.assign(new Error('ENOSPC: no space left on device, copyfile'), {
    code: 'ENOSPC',
    errno: -28,
    syscall: 'copyfile',
    path: '/a',
    dest: '/b',
  });
  const nested = new UserErrors('2 of 3 extensions failed', [
    new UserErrors('a: lint found 1 error', [new UserError('usr/sbin/x is there', { where: 'files/usr/sbin/x', next: 'move it' })]),
    new UserErrors('b failed', [new UserErrors('inner', [new UserError('leaf', { next: 'mend it' })])]),
  ]);
  const text = explanation(nested);
  for (const part of [
    '2 of 3',
    'a: lint found',
    'usr/sbin/x is there',
    'at: files/usr/sbin/x',
    'do: move it',
    'inner',
    'leaf',
    'do: mend it',
  ])
    expect(text).toContain(part);
  expect(text).not.toContain('please report');
  const several = explanation(new AggregateError([new UserError('first'), full, new TypeError('x is undefined')], 'all failed'));
  expect(several).toMatch(/first[^]*no space left[^]*\/a -> \/b[^]*cache prune[^]*x is undefined[^]*please report/);
  expect(several.match(/please report/g)).toHaveLength(1);
});
