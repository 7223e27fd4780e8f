// Large files are read in chunks by other threads: results and errors are those of the same call in this thread.
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestsOf, eachChunk, interruptible, inThread, UserError } from '@flatcar/core/engine';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { imageDigests } from '../src/image/image-digests.ts';
import { WORTH_A_THREAD } from '../src/util/threads.ts';

const calls = new URL('helpers/thread-calls.ts', import.meta.url).href;
const hash = (bytes: Buffer, algorithm = 'sha256'): string => createHash(algorithm).update(bytes).digest('hex');
const bytes = randomBytes(WORTH_A_THREAD + 12_345);

let dir: string;
let file: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'threads-'));
  file = join(dir, 'large');
  await writeFile(file, bytes);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

test('chunks cover a range, and end where the file ends', async () => {
  const handle = await open(file, 'r');
  const read = async (start: number, end: number): Promise<Buffer> => {
    const chunks: Buffer[] = [];
    const count = await eachChunk(handle, { start, end }, (chunk) => void chunks.push(Buffer.from(chunk)));
    const all = Buffer.concat(chunks);
    expect(count).toBe(all.length);
    return all;
  };
  expect((await read(0, Infinity)).equals(bytes)).toBe(true);
  expect((await read(4095, 3_000_001)).equals(bytes.subarray(4095, 3_000_001))).toBe(true);
  expect((await read(bytes.length - 5, bytes.length + 5)).equals(bytes.subarray(-5))).toBe(true);
  expect(await read(7, 7)).toHaveLength(0);
  expect(await read(bytes.length + 1, Infinity)).toHaveLength(0);
  await expect(eachChunk(handle, { start: 0, end: Infinity }, () => Promise.reject(new Error('enough')))).rejects.toThrow('enough');
  await handle.close();
});

test('a file that no size is known of is read to its end', async () => {
  expect((await digestsOf('/proc/self/maps', ['sha256'])).sha256).toMatch(/^[0-9a-f]{64}$/);
  expect(await digestsOf('/dev/null', ['sha256'])).toEqual({ sha256: hash(Buffer.alloc(0)) });
});

test('options of this program that a thread cannot have do not stop it', async () => {
  const script = `import { digestsOf } from '@flatcar/core/engine'; console.log((await digestsOf(${JSON.stringify(file)}, ['sha256'])).sha256);`;
  const { stdout } = await execa(process.execPath, ['--input-type=module', '--eval', script], { cwd: import.meta.dirname });
  expect(stdout).toBe(hash(bytes));
});

test('digests by a thread are the same as here, and a missing file is the same error', async () => {
  expect(await digestsOf(file, ['sha256', 'sha512'])).toEqual({ sha256: hash(bytes), sha512: hash(bytes, 'sha512') });
  await expect(inThread(calls, 'open', join(dir, 'missing'))).rejects.toMatchObject({ code: 'ENOENT', syscall: 'open' });
});

test('images with a common beginning: each digest is that of the whole image', async () => {
  const other = Buffer.from(bytes);
  other.fill(0, 5_000_000, 5_004_096);
  await writeFile(join(dir, 'other'), other);
  const expected = [bytes, other].map((one) => ({ sha256: hash(one), sha512: hash(one, 'sha512') }));
  expect(await imageDigests([file, join(dir, 'other')], 5_000_000)).toEqual(expected);
  expect(await imageDigests([file], 0)).toEqual(expected.slice(0, 1));
  expect(await imageDigests([], 0)).toEqual([]);
});

test('an error for people stays one', async () => {
  const error: unknown = await inThread(calls, 'refuse').catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(UserError);
  expect(error).toMatchObject({ message: 'refused', where: 'here', next: 'go on', code: 'usage' });
});

test('a thread that ends by itself fails its call only', async () => {
  await expect(inThread(calls, 'end')).rejects.toThrow('a thread ended while it ran end');
  expect(await inThread(calls, 'echo', 1)).toBe(1);
});

test('more calls than cores take turns', async () => {
  const answers = await Promise.all(Array.from({ length: 20 }, (_, index) => inThread(calls, 'echo', index)));
  expect(answers).toEqual(Array.from({ length: 20 }, (_, index) => index));
});

test('an interruption ends a thread that never answers, and those that wait for it', async () => {
  const controller = new AbortController();
  const stuck = Array.from({ length: 20 }, () => interruptible(controller.signal, () => inThread(calls, 'spin')));
  const ended = Promise.allSettled(stuck);
  await sleep(50);
  controller.abort(new Error('interrupted'));
  for (const one of await ended) expect(one).toMatchObject({ status: 'rejected', reason: { message: 'interrupted' } });
  expect(await inThread(calls, 'echo', 'alive')).toBe('alive');
});
