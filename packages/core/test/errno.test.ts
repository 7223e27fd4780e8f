import { spawnSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, open, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { asUserError, describeErrno, exec, makeFolder, openStore, UserError } from '@flatcar/core/engine';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { describeStart, mountOptions } from '../src/util/errno.ts';
import { unpack } from '../src/store/unpack.ts';

const isRoot = process.geteuid?.() === 0;
let dir: string;
beforeAll(async () => void (dir = await mkdtemp(join(tmpdir(), 'errno-'))));
afterAll(() => rm(dir, { recursive: true, force: true }));

/** What is thrown, as it is shown. */
async function thrown(fn: () => Promise<unknown>): Promise<UserError> {
  const error = await fn().then(
    () => undefined,
    (one: unknown) => one,
  );
  const known = asUserError(error);
  if (known === undefined) throw new Error('not translated', { cause: error });
  return known;
}

describe('system calls on files', () => {
  test.for([
    'ENOSPC',
    'EDQUOT',
    'EROFS',
    'EACCES',
    'EPERM',
    'EMFILE',
    'ENFILE',
    'EPIPE',
    'ENOMEM',
    'ELOOP',
    'ENAMETOOLONG',
    'ENOTDIR',
    'EISDIR',
    'EXDEV',
    'EFBIG',
    'EIO',
    'ENOLCK',
    'ENOTSUP',
    'EOPNOTSUPP',
    'EBUSY',
    'ESTALE',
  ])('%s is told for what it is, with what to do', (code) => {
    const error = Object.assign(new Error(`${code}: raw words, write`), { code, errno: -1, syscall: 'write', path: '/srv/x' });
    const known = describeErrno(error);
    expect(known?.message).not.toContain('raw words');
    expect(known?.where).toBe('/srv/x');
    expect(known?.next).toMatch(/\w{3,}/);
    // Also as the cause of an error that has no words for it.
    expect(asUserError(new Error('wrapped', { cause: error }))?.message).toBe(known?.message);
  });

  test('a write that fails on an open file names the file', async () => {
    // Limits are of a process; SIGXFSZ would end it before the write fails.
    const script = `import { asUserError, writeAtomic } from '${import.meta.resolve('@flatcar/core/engine')}';
      await writeAtomic(process.argv[1], Buffer.alloc(100_000)).catch((error) => console.log(JSON.stringify(asUserError(error))));`;
    const file = join(dir, 'large');
    const said = await exec('sh', [
      '-c',
      'trap "" XFSZ; ulimit -f 8; exec "$0" --input-type=module --eval "$1" "$2"',
      process.execPath,
      script,
      file,
    ]);
    expect(JSON.parse(said)).toMatchObject({ where: file, next: expect.stringContaining('ulimit -f') as string });
  });

  test('our own defects and errors of the network are not taken for it', () => {
    expect(asUserError(new TypeError('x is undefined'))).toBeUndefined();
    expect(describeErrno(Object.assign(new Error(), { code: 'ERR_INVALID_ARG_TYPE' }))).toBeUndefined();
    expect(describeErrno(Object.assign(new Error(), { code: 'ECONNREFUSED', errno: -111, syscall: 'connect' }))).toBeUndefined();
    expect(describeErrno(Object.assign(new Error(), { code: 'EACCES', errno: -13, syscall: 'connect' }))).toBeUndefined();
  });

  test('a folder that cannot be made ends at once', async () => {
    const file = join(dir, 'file');
    await writeFile(file, '');
    expect(await thrown(() => makeFolder('/proc/x'))).toMatchObject({
      where: '/proc/x',
      message: expect.stringMatching(/no folder can be made here/) as string,
    });
    expect((await thrown(() => makeFolder('/proc/x/y/z'))).message).toMatch(/no folder can be made here/);
    expect((await thrown(() => makeFolder('/dev/null/x'))).message).toMatch(/a file, not a folder/);
    expect((await thrown(() => makeFolder(join(file, 'a/b')))).message).toMatch(/a file, not a folder/);
    await symlink('loop', join(dir, 'loop'));
    expect((await thrown(() => makeFolder(join(dir, 'loop', 'x')))).message).toMatch(/link leads back to itself/);
    expect((await thrown(() => makeFolder(join(dir, 'n'.repeat(300))))).message).toMatch(/path is too long/);
    expect(await makeFolder(join(dir, 'deep/er'))).toEqual([join(dir, 'deep'), join(dir, 'deep/er')]);
    expect(await makeFolder(join(dir, 'deep/er'))).toEqual([]);
  });

  test('a store below a path that cannot be made ends at once, too', async () => {
    const refused = await thrown(() => openStore('/proc/x').stats());
    expect(refused.message).toMatch(/the store cannot be used: no folder can be made here/);
    expect(refused.next).toMatch(/set FLATCAR_EXT_CACHE/);
  });

  test('files of another user are told with whose they are and how to get them back', async ({ skip }) => {
    if (!isRoot) return skip('skipped: only root can make files of another user');
    const folder = join(dir, 'roots');
    await mkdir(folder, { mode: 0o755 });
    await chmod(dir, 0o755);
    const code = `import { writeFile } from 'node:fs/promises';
      const { asUserError } = await import(${JSON.stringify(join(import.meta.dirname, '../src/engine.ts'))});
      try { await writeFile(${JSON.stringify(join(folder, 'x'))}, ''); } catch (error) { const { message, next } = asUserError(error); console.log(message, '|', next); }`;
    const ran = spawnSync(process.execPath, ['--input-type=module', '-e', code], { uid: 65534, gid: 65534, encoding: 'utf8', env: {} });
    if (/EACCES|MODULE_NOT_FOUND/.test(ran.stderr)) return skip('skipped: the checkout cannot be read by other users');
    expect(ran.stdout).toMatch(/belongs to root \(uid 0\), and you are .*65534/);
    expect(ran.stdout).toContain(`sudo chown -R 65534:65534 '${folder}'`);
  });

  test('a full disk is no damaged archive', async ({ skip }) => {
    const full = await open('/dev/full', 'w').catch(() => undefined);
    if (full === undefined) return skip('skipped: this machine has no /dev/full');
    const error = await full.write('x').then(
      () => undefined,
      (one: unknown) => one,
    );
    await full.close();
    expect((await thrown(() => Promise.reject(error))).next).toMatch(/cache prune/);
    // Unpacking where nothing may be written is about the place, not about the archive.
    const archive = join(dir, 'x.tar');
    await exec('tar', ['-C', dir, '-cf', archive, 'file']);
    expect((await thrown(() => unpack(archive, 'x.tar', '/proc/x'))).message).toMatch(/no folder can be made here/);
  });
});

describe('starting programs', () => {
  test('a missing program is told with what to install; that advice is for nothing else', async () => {
    expect(await thrown(() => exec('no-such-program-here', [], { install: 'install it' }))).toMatchObject({
      message: "'no-such-program-here' is not installed",
      next: 'install it',
    });
    const failed = await thrown(() => exec('sh', ['-c', 'echo some words >&2; exit 3'], { install: 'install sh' }));
    expect(failed.message).toBe('sh failed (exit code 3)\nsome words');
    expect(failed.next).toBeUndefined();
    expect((await thrown(() => exec('sh', ['-c', 'exit 3'], { next: 'do so' }))).next).toBe('do so');
  });

  test.for([
    ['tar: x: Cannot write: No space left on device', /cache prune/],
    ['sh: 1: Cannot fork', /ulimit -u/],
    ['fork: Resource temporarily unavailable; fork failed', /ulimit -u/],
    ['x: Disk quota exceeded', /free some space/],
    ['cc1: out of memory allocating 65536 bytes', /memory/],
    ['open: Too many open files', /ulimit -n/],
    ['mkdir: Read-only file system', /writable|another file system/],
  ] as const)('what a tool says of the system is told with what to do: %s', async ([text, next]) => {
    expect(
      (await thrown(() => exec('sh', ['-c', 'echo "$1" >&2; exit 2', 'sh', text], { install: 'install dpkg', next: 'other' }))).next,
    ).toMatch(next);
  });

  test('a program that the kernel refuses is told with the reason', async () => {
    const text = join(dir, 'text');
    await writeFile(text, 'no program', { mode: 0o755 });
    expect((await thrown(() => exec(text, []))).message).toMatch(
      /text cannot be run: it is not a program for this machine \(ENOEXEC\)|text failed/,
    );
    const plain = join(dir, 'plain');
    await writeFile(plain, '#!/bin/sh\n', { mode: 0o644 });
    const refused = await thrown(() => exec(plain, []));
    expect(refused.message).toBe('plain cannot be run: permission denied (EACCES)');
    expect(refused.next).toMatch(/FLATCAR_EXT_CACHE/);
    const orphan = join(dir, 'orphan');
    await writeFile(orphan, '#!/no/such/interpreter\n', { mode: 0o755 });
    expect((await thrown(() => exec(orphan, []))).message).toMatch(/its interpreter or loader is missing/);
    expect((await thrown(() => exec('true', [], { cwd: join(dir, 'gone') }))).message).toMatch(/no such folder/);
    expect((await thrown(() => exec('true', ['x'.repeat(3 << 20)]))).message).toMatch(/arguments and environment are too long/);
    for (const code of ['EAGAIN', 'ENOMEM', 'EMFILE', 'ENFILE', 'EPERM', 'ELOOP', 'ENAMETOOLONG', 'EIO', 'ENOTDIR'])
      expect(describeStart('/x/tool', code)).toMatchObject({
        message: expect.stringContaining(`(${code})`) as string,
        next: expect.stringMatching(/\w{3}/) as string,
      });
  });

  test('a store on a file system without execution names the setting', async ({ skip }) => {
    const mounts = (await readFile('/proc/self/mounts', 'utf8').catch(() => '')).split('\n').map((line) => line.split(' '));
    const [, point = ''] = mounts.find(([, , type = '', options = '']) => type === 'tmpfs' && options.split(',').includes('noexec')) ?? [];
    if (point === '') return skip('skipped: no tmpfs is mounted noexec on this machine');
    expect(mountOptions(join(point, 'some/path')).has('noexec')).toBe(true);
    const known = describeStart(join(point, 'store/tool'), 'EACCES');
    expect(known.message).toMatch(/mounted noexec/);
    expect(known.next).toMatch(/store must allow execution: set FLATCAR_EXT_CACHE/);
  });
});
