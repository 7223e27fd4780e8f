import { PassThrough } from 'node:stream';
import { mkdtemp, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exec, openStore } from '@flatcar/core/engine';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { groupsOf } from '../src/extension/machines.ts';
import { cpio } from '../src/machine/initrd.ts';
import { writeSeed } from '../src/machine/seed.ts';
import { shellOver } from '../src/machine/shell.ts';
import { stateOf } from '../src/machine/stand-in.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'machine-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('groups of extensions that share a machine', () => {
  type Grouped = Parameters<typeof groupsOf>[0][number];
  const one = (name: string, conflicts: string[] = [], beside: string[] = []): Grouped => ({ name, kind: 'sysext', conflicts, beside });
  const names = (all: Grouped[]): string[][] => groupsOf(all).map((group) => group.map(({ name }) => name).toSorted());

  test('are as few as the conflicts allow', () => {
    expect(names([one('a'), one('b'), one('c')])).toEqual([['a', 'b', 'c']]);
    expect(names([one('a', ['b']), one('b'), one('c')])).toEqual([['a', 'c'], ['b']]);
  });

  test('keep confexts apart, which make /etc read-only for the others', () => {
    expect(names([one('a'), { ...one('b'), kind: 'confext' }, one('c')])).toEqual([['a', 'c'], ['b']]);
  });

  test('hold what an extension needs beside it, in each of them', () => {
    const groups = names([one('runtime'), one('shim', [], ['runtime']), one('other', ['shim'], ['runtime'])]);
    expect(groups).toEqual([
      ['runtime', 'shim'],
      ['other', 'runtime'],
    ]);
  });
});

describe('the shell', () => {
  const pair = (): { shell: ReturnType<typeof shellOver>; asked: () => string; say: (text: string) => void } => {
    const [input, output] = [new PassThrough(), new PassThrough()];
    let text = '';
    input.on('data', (chunk: Buffer) => (text += chunk.toString()));
    return { shell: shellOver(input, output), asked: () => text, say: (line) => output.write(line) };
  };
  const base64 = (text: string): string => Buffer.from(text).toString('base64');

  test('puts answers together that come in pieces, and gives each to who asked', async () => {
    const { shell, asked, say } = pair();
    const answers = [shell.run('one', 5000), shell.run('two', 5000)];
    await expect.poll(asked).toBe(`1 ${base64('one')}\n2 ${base64('two')}\n`);
    say(`2 3 ${base64('said two')}\n1 0 ${base64('söid').slice(0, 4)}`);
    say(`${base64('söid').slice(4)}\r\n`);
    expect(await Promise.all(answers)).toEqual([
      { code: 0, said: 'söid' },
      { code: 3, said: 'said two' },
    ]);
  });

  test('tells each boot by its id, and what gives no answer by its script', async () => {
    const { shell, say } = pair();
    say('ready first\nready second\n');
    expect([await shell.ready(5000), await shell.ready(5000)]).toEqual(['first', 'second']);
    await expect(shell.run('never answered', 50)).rejects.toThrow('never answered');
    await expect(shell.ready(50)).rejects.toThrow('did not come up');
  });
});

test('the archive for the kernel is one that cpio readers take', async () => {
  const file = join(dir, 'archive.cpio');
  const entries = [
    { path: 'etc', mode: 0o40755, content: Buffer.alloc(0) },
    { path: 'etc/unit', mode: 0o100644, content: Buffer.from('[Unit]\n') },
    { path: 'etc/link', mode: 0o120777, content: Buffer.from('unit') },
  ];
  const bytes = cpio(entries);
  expect(bytes.length % 512).toBe(0);
  await writeFile(file, bytes);
  // newc: 13 fields of 8 hex digits behind the magic, names and contents on multiples of 4.
  let at = 0;
  const read: { path: string; mode: number; content: Buffer }[] = [];
  for (;;) {
    const header = bytes.toString('latin1', at, at + 110);
    expect(header.slice(0, 6)).toBe('070701');
    const field = (index: number): number => Number.parseInt(header.slice(6 + index * 8, 14 + index * 8), 16);
    const [mode, size, nameSize] = [field(1), field(6), field(11)];
    const path = bytes.toString('utf8', at + 110, at + 110 + nameSize - 1);
    const start = Math.ceil((at + 110 + nameSize) / 4) * 4;
    if (path === 'TRAILER!!!') break;
    read.push({ path, mode, content: bytes.subarray(start, start + size) });
    at = Math.ceil((start + size) / 4) * 4;
  }
  expect(read).toEqual(entries);
});

test('a seed is a tar of files, copies and links, owned by root, without folders', async () => {
  const image = join(dir, 'image.raw');
  await writeFile(image, 'bytes');
  await symlink('image.raw', join(dir, 'newest.raw')); // what a link leads to is what is copied
  const out = join(dir, 'seed');
  await writeSeed(
    openStore(join(dir, 'store')),
    {
      files: { '/etc/a': 'text', '/opt/bin/b': '#!/bin/sh\n' },
      copies: { '/opt/i.raw': join(dir, 'newest.raw') },
      links: { '/etc/l': '/opt/i.raw' },
    },
    out,
  );
  const listed = (await exec('tar', ['--list', '--verbose', '--numeric-owner', '--file', out])).split('\n');
  expect(listed.map((line) => line.replace(/\s+\d+ \d{4}-\d\d-\d\d \d\d:\d\d/, ''))).toEqual([
    '-rw-r--r-- 0/0 etc/a',
    '-rwxr-xr-x 0/0 opt/bin/b',
    '-rw-r--r-- 0/0 opt/i.raw',
    'lrwxr-xr-x 0/0 etc/l -> /opt/i.raw',
  ]);
  expect(await readFile(image, 'utf8')).toBe('bytes');
});

test('a stand-in tells what it has, and its age once that is long', async () => {
  const stand = await mkdtemp(join(dir, 'stand-in-'));
  await writeFile(join(stand, 'packages'), 'bash\t5.2\n');
  await utimes(join(stand, 'packages'), new Date('2026-01-01'), new Date('2026-01-01'));
  const after = (days: number): Promise<string> => stateOf(stand, 'trixie for arm64', Date.parse('2026-01-01') + days * 86_400_000);
  const first = await after(10);
  expect(first).toMatch(/^stand-in: trixie for arm64 of 2026-01-01, packages [0-9a-f]{16}$/);
  expect(await after(40)).toBe(`${first}, 40 days old: remove ${stand} to build it again`);
  await writeFile(join(stand, 'packages'), 'bash\t5.3\n');
  await utimes(join(stand, 'packages'), new Date('2026-01-01'), new Date('2026-01-01'));
  expect(await after(10)).not.toBe(first);
});
