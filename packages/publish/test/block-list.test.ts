// Block lists: what is written is read, what is applied makes the other image, and hostile lists are refused.
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { applyBlockList, blockListBytes, compareImages, parseBlockList, patchedSha256 } from '../src/deltas/block-list.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'blocks-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Writes two images, compares them, and applies the list to the first one. */
async function roundTrip(before: Buffer, after: Buffer): Promise<{ list: Buffer | undefined; made: Buffer }> {
  const [old, fresh] = [join(dir, 'old'), join(dir, 'new')];
  await writeFile(old, before);
  await writeFile(fresh, after);
  const list = await compareImages(old, fresh);
  const chunks: Buffer[] = [];
  if (list !== undefined) await applyBlockList(old, parseBlockList(list, 'list'), (chunk) => void chunks.push(Buffer.from(chunk)));
  return { list, made: Buffer.concat(chunks) };
}

/** An image of so many bytes, with bytes changed at offsets. */
function changed(image: Buffer, at: Readonly<Record<number, string>>): Buffer {
  const other = Buffer.from(image);
  for (const [offset, text] of Object.entries(at)) other.write(text, Number(offset), 'latin1');
  return other;
}

test('differences at the ends, near each other, across blocks and across pieces that are read at once make the other image', async () => {
  const before = Buffer.alloc((2 << 20) + 777, 'image ');
  const after = changed(before, {
    0: 'X',
    10: 'near',
    4090: 'across a block',
    5000: 'Y',
    [(1 << 20) - 3]: 'across',
    [before.length - 1]: 'Z',
  });
  const { list, made } = await roundTrip(before, after);
  expect(made.equals(after)).toBe(true);
  expect(list?.length).toBeLessThan(200);
  const { size, records } = parseBlockList(list ?? Buffer.alloc(0), 'list');
  expect(size).toBe(before.length);
  expect(records[0]).toEqual({ offset: 0, bytes: after.subarray(0, 14) });
});

test('any two images of the same size', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(20_000), fc.string({ unit: 'binary-ascii', minLength: 1, maxLength: 40 })), { maxLength: 8 }),
      async (edits) => {
        const before = Buffer.alloc(20_100, 'abc');
        const after = changed(before, Object.fromEntries(edits));
        expect((await roundTrip(before, after)).made.equals(after)).toBe(true);
      },
    ),
    { numRuns: 50 },
  );
});

test('a large image is compared and hashed in another thread, with the same result', async () => {
  const before = Buffer.alloc(17 << 20, 'large ');
  const after = changed(before, { [16 << 20]: 'changed' });
  const { list } = await roundTrip(before, after);
  expect(list).toBeDefined();
  expect(await patchedSha256(join(dir, 'old'), list ?? Buffer.alloc(0))).toBe(createHash('sha256').update(after).digest('hex'));
});

test('images of other sizes, and those that differ in too much, have no list', async () => {
  expect((await roundTrip(Buffer.alloc(5000), Buffer.alloc(5001))).list).toBeUndefined();
  expect((await roundTrip(Buffer.alloc(3 << 20, 'a'), Buffer.alloc(3 << 20, 'b'))).list).toBeUndefined();
});

test('a list is not applied to an image of another size', async () => {
  await writeFile(join(dir, 'other'), Buffer.alloc(10));
  await expect(applyBlockList(join(dir, 'other'), { size: 11, records: [] }, () => undefined)).rejects.toThrow(
    'the block list is for an image of 11 bytes, and this one has 10',
  );
});

const good = blockListBytes({
  size: 100,
  records: [
    { offset: 10, bytes: Buffer.from('one') },
    { offset: 13, bytes: Buffer.from('two') },
  ],
});
const altered = (change: (bytes: Buffer) => void): Buffer => {
  const bytes = Buffer.from(good);
  change(bytes);
  return bytes;
};

test('the format is what docs/deltas.md has, byte by byte', () => {
  expect(good.toString('hex')).toBe(
    [
      Buffer.from('FEXTBLK1').toString('hex'),
      '6400000000000000',
      '02000000',
      '0a0000000000000003000000',
      Buffer.from('one').toString('hex'),
      '0d0000000000000003000000',
      Buffer.from('two').toString('hex'),
    ].join(''),
  );
  expect(parseBlockList(good, 'list').records.map(({ bytes }) => bytes.toString())).toEqual(['one', 'two']);
});

test.each([
  ['nothing', Buffer.alloc(0), 'not a block list'],
  ['another format', altered((bytes) => bytes.write('FEXTBLK2')), 'not a block list'],
  ['a part of it', good.subarray(0, good.length - 1), 'it is cut off'],
  ['a part of a record', good.subarray(0, 25), 'it is cut off'],
  ['more than it', Buffer.concat([good, Buffer.from([0])]), 'there is data behind the last record'],
  ['fewer records than there are', altered((bytes) => bytes.writeUInt32LE(1, 16)), 'there is data behind the last record'],
  ['more records than there are', altered((bytes) => bytes.writeUInt32LE(0xffffffff, 16)), 'it is cut off'],
  ['an empty record', altered((bytes) => bytes.writeUInt32LE(0, 28)), 'an empty record'],
  ['records that overlap', altered((bytes) => bytes.writeBigUInt64LE(12n, 35)), 'a record overlaps another one or is outside the image'],
  ['records in another order', altered((bytes) => bytes.writeBigUInt64LE(1n, 35)), 'a record overlaps another one or is outside the image'],
  ['a record behind the end', altered((bytes) => bytes.writeBigUInt64LE(98n, 35)), 'a record overlaps another one or is outside the image'],
  ['an offset of 2^64 - 1', altered((bytes) => bytes.writeBigUInt64LE(0xffffffffffffffffn, 35)), 'outside the image'],
  ['a length of 2^32 - 1', altered((bytes) => bytes.writeUInt32LE(0xffffffff, 28)), 'outside the image'],
  ['two megabytes', Buffer.alloc(2 << 20), 'longer than 1048576 bytes'],
])('%s is refused', (_, bytes, message) => {
  expect(() => parseBlockList(bytes, 'list')).toThrow(message);
});
