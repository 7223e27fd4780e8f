import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as v from 'valibot';
import type { UserErrors } from '../src/util/errors.ts';
import { parseJson } from '../src/util/json.ts';
import { readReleaseFile } from '../src/image/release-file.ts';
import { lockedCrates } from '../src/origins/cargo-lock.ts';
import { DAG, elfOf, erofsOf, LOOP, squashfsOf } from './helpers/hostile-images.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'readers-test-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Runs code in a process of its own: a reader that never ends must not keep the tests. */
async function inProcess(what: string, code: string, args: readonly string[]): Promise<unknown> {
  const { stdout, stderr, timedOut } = await execa(
    process.execPath,
    ['--max-old-space-size=256', '--input-type=module', '-e', code, ...args],
    { timeout: 20_000, killSignal: 'SIGKILL', reject: false },
  );
  if (timedOut) throw new Error(`${what} did not end within 20 seconds`);
  if (stdout === '') throw new Error(stderr);
  return JSON.parse(stdout);
}

const OUTCOME = `.catch((error) => ({ error: error.name, message: error.message, where: error.where }));
    console.log(JSON.stringify(out ?? null));`;

/** What a reader says of a text, which it takes as its last argument. */
async function readText(module: string, reader: string, text: string, ...args: readonly string[]): Promise<unknown> {
  const file = join(dir, 'text');
  await writeFile(file, text);
  const code = `
    import { readFile } from 'node:fs/promises';
    const { ${reader}: read } = await import(process.argv[1]);
    const text = await readFile(process.argv[2], 'utf8');
    const out = await (async () => read(...process.argv.slice(3), text))()${OUTCOME}`;
  return inProcess(reader, code, [join(import.meta.dirname, '../src', module), file, ...args]);
}

/** What a reader says of a file. */
async function read(module: string, reader: string, bytes: Buffer): Promise<unknown> {
  const file = join(dir, 'input');
  await writeFile(file, bytes);
  const code = `
    const { ${reader}: read } = await import(process.argv[1]);
    const out = await read(process.argv[2])${OUTCOME}`;
  return inProcess(reader, code, [join(import.meta.dirname, '../src', module), file]);
}
const refused = (message: string): object => ({ error: 'UserError', message, where: join(dir, 'input') });

describe('readElf', () => {
  test('ends at the last version need, whatever their count says', async () => {
    expect(elfOf()).toHaveLength(336);
    expect(await read('inspect/elf.ts', 'readElf', elfOf())).toMatchObject({ machine: 62, needed: [] });
  });
  test.each([
    ['needs that lead one byte on', elfOf({ next: 1 })],
    ['versions that lead to one another', elfOf({ aux: 65_535, auxNext: 1 })],
  ])('takes no more entries than there is room for: %s', async (_, file) => {
    expect(await read('inspect/elf.ts', 'readElf', file)).toBeNull();
  });
});

describe.each([
  ['image/squashfs.ts', 'readSquashfs', squashfsOf],
  ['image/erofs.ts', 'readErofs', erofsOf],
] as const)('%s', (module, reader, imageOf) => {
  test('reads folders within folders', async () => {
    const { entries } = (await read(module, reader, imageOf([[1, 2], [3], [], []]))) as { entries: { path: string; type: string }[] };
    expect(entries.map(({ path, type }) => `${type} ${path}`)).toEqual(['dir a', 'dir a/a', 'dir b']);
  });
  test('refuses folders that are in two install: 40 levels of them are 2^40 paths', async () => {
    expect(imageOf(DAG).length).toBeLessThanOrEqual(3 * 4096);
    expect(await read(module, reader, imageOf(DAG))).toEqual(
      refused(expect.stringMatching(/cannot be read: the folder '[ab/]+' is in two places/) as string),
    );
    expect(await read(module, reader, imageOf(LOOP))).toEqual(refused("the image cannot be read: the folder 'a/a' is in two places"));
  });
  test('takes no more inodes than its superblock names, and no more than the file has room for', async () => {
    expect(await read(module, reader, imageOf([[1, 2], [], []], { inodes: 2 }))).toEqual(
      refused('the image cannot be read: more than its 2 inodes'),
    );
    expect(await read(module, reader, imageOf([[]], { inodes: 2 ** 31 }))).toEqual(
      refused(`the image cannot be read: ${2 ** 31} inodes do not fit into it`),
    );
  });
  test('refuses a file that is shorter than a superblock', async () => {
    expect(await read(module, reader, Buffer.from('hsqs'))).toEqual(refused('the image cannot be read: it is cut off'));
  });
});

test('readErofs refuses a superblock that does not match its checksum, which fsck.erofs reports as success', async () => {
  const image = erofsOf([[]]);
  image.writeUInt32LE(1, 1024 + 8);
  image.writeUInt32LE(0x12345678, 1024 + 4);
  expect(await read('image/erofs.ts', 'readErofs', image)).toEqual(
    refused('the image cannot be read: the superblock does not match its checksum'),
  );
});

describe('readPartitions', () => {
  /** A disk image with one partition of the given sectors. */
  function gptOf({ table = 2n, first = 34n, last = 40n }: { table?: bigint; first?: bigint; last?: bigint }): Buffer {
    const disk = Buffer.alloc(64 * 512);
    disk.write('EFI PART', 512, 'latin1');
    disk.writeBigUInt64LE(table, 512 + 72);
    disk.writeUInt32LE(128, 512 + 80);
    disk.writeUInt32LE(128, 512 + 84);
    disk.fill(1, 1024, 1024 + 32);
    disk.writeBigUInt64LE(first, 1024 + 32);
    disk.writeBigUInt64LE(last, 1024 + 40);
    return disk;
  }
  test('reads a table', async () => {
    expect(await read('image/ddi.ts', 'readPartitions', gptOf({}))).toMatchObject([{ offset: 34 * 512, size: 7 * 512 }]);
  });
  test.each([
    ['a table outside of the file', gptOf({ table: 2n ** 63n }), 'the partition table cannot be read: it is cut off'],
    ['a table that begins in it and ends outside', gptOf({ table: 63n }), 'the partition table cannot be read: it is cut off'],
    ['a partition outside of it', gptOf({ last: 2n ** 63n }), 'the disk image is cut off'],
    ['no second sector', Buffer.from('EFI PART'), 'not a disk image: it has no GPT'],
  ])('refuses %s', async (_, disk, message) => {
    expect(await read('image/ddi.ts', 'readPartitions', disk)).toEqual(refused(message));
  });
});

describe('a long text takes a time that grows with its length', () => {
  test('licences with many blanks between them', async () => {
    const copyright = `Format: https://example.org/1.0/\n\nFiles: *\nLicense: Expat${' '.repeat(100_000)}and${' '.repeat(100_000)}GPL-2\n`;
    expect(await readText('origins/debian/copyright.ts', 'readCopyright', copyright)).toEqual({ expression: 'MIT AND GPL-2.0-only' });
    expect(await readText('origins/debian/copyright.ts', 'readCopyright', copyright.replace('and', 'x'))).toHaveProperty('text');
  });
  test('entries of sources.list whose options do not end', async () => {
    const list = `${'deb [\n'.repeat(60_000)}deb [arch=amd64] https://example.org/debian trixie main\n`;
    expect(await readText('debian/mirror.ts', 'parseSources', list, 'sources.list')).toMatchObject([{ components: ['main'] }]);
  });
});

describe('lockedCrates', () => {
  const entry = (name: string, more = ''): string =>
    `[[package]]\nname = "${name}"\nversion = "1.0.0"\n${more}checksum = "${'a'.repeat(64)}"\n\n`;
  test('gives the crates that a registry has', () => {
    expect(lockedCrates(`version = 4\n\n${entry('memchr')}[[package]]\nname = "own"\nversion = "0.1.0"\n`, 'Cargo.lock')).toEqual([
      { name: 'memchr', version: '1.0.0', checksum: 'a'.repeat(64) },
    ]);
  });
  test.each(['../../../../home/x', '*', 'a/b', ''])("refuses a crate called '%s': names are part of paths", (name) => {
    expect(() => lockedCrates(entry(name), 'Cargo.lock')).toThrow('is not a crate of a registry');
  });
  test('reads what TOML allows and cargo does not write', () => {
    const odd = `package = [{ name = 'memchr', version = "1.0.0", checksum = "${'a'.repeat(64)}" }] # one line`;
    expect(lockedCrates(odd, 'Cargo.lock')).toEqual([{ name: 'memchr', version: '1.0.0', checksum: 'a'.repeat(64) }]);
  });
  test('refuses what is not TOML or not a list of packages, with file and line', () => {
    expect(() => lockedCrates(`${entry('x')}name = `, 'Cargo.lock')).toThrow(/^invalid Cargo.lock: /);
    expect(() => lockedCrates('[package]\nname = "x"\n', 'Cargo.lock')).toThrow(/^invalid Cargo.lock: /);
  });
  test('refuses one from git', () => {
    expect(() => lockedCrates(entry('x', 'source = "git+https://example.org/x"\n'), 'Cargo.lock')).toThrow('comes from git');
  });
});

test('of many errors in one text the first twenty are listed, with the line of each', () => {
  const text = JSON.stringify(
    Array.from({ length: 5000 }, () => 1),
    undefined,
    1,
  );
  const error = (() => {
    try {
      parseJson(v.array(v.string()), text, { what: 'list', where: 'list.json' });
    } catch (thrown) {
      return thrown as UserErrors;
    }
    return undefined;
  })();
  expect(error?.message).toBe('invalid list: 5000 errors, of which the first 20 are');
  expect(error?.errors.map(({ where }) => where)).toEqual(Array.from({ length: 20 }, (_, index) => `list.json:${index + 2}`));
});

test('an image without a release file says which one, and of which image', async () => {
  const error = await readReleaseFile(dir, 'demo', 'sysext', 'demo.raw').catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({
    name: 'UserError',
    message: "the image has no release file 'usr/lib/extension-release.d/extension-release.demo'",
    where: 'demo.raw',
  });
});
