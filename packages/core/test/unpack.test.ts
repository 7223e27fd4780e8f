import { hostArch } from '../src/model/arch.ts';
import { createHash, randomBytes } from 'node:crypto';
import { access, mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readControlFiles } from '../src/archives/deb.ts';
import { writeTar } from '../src/archives/write-tar.ts';
import { packageFields } from '../src/debian/packages.ts';
import { UserError } from '../src/util/errors.ts';
import { buildUpstream } from '../src/origins/upstream.ts';
import { exec } from '../src/util/exec.ts';
import { interruptible } from '../src/util/interrupt.ts';
import { openStore } from '../src/store/store.ts';
import { pinnedRecords } from '../src/tools/tool-records.ts';
import { openSandbox } from '../src/tools/sandbox.ts';
import { openToolchains } from '../src/tools/toolchains.ts';
import { openTools } from '../src/tools/tools.ts';
import { archiveKind, unpack, unpackPackage, type UnpackOptions } from '../src/store/unpack.ts';
import { arOf, debOf, pax, tarOf, tarPart, TAR_END, zipOf, type TarPart, type ZipPart } from './helpers/archives.ts';
import { serve, type TestServer } from './helpers/server.ts';

const tools = openTools(openStore());
const options: UnpackOptions = { decompressor: (kind) => tools.command(kind) };

let dir: string;
let server: TestServer | undefined;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'unpack-test-'));
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  await rm(dir, { recursive: true, force: true });
});

const tree: TarPart[] = [
  { path: './tool-1.0/', type: '5' },
  { path: './tool-1.0/bin/tool', body: '#!/bin/sh\necho 1.0\n' },
  { path: './tool-1.0/README', body: 'read me', mode: 0o644 },
  { path: './tool-1.0/link', type: '2', link: 'bin/tool' },
];

/** Bytes as xz or bzip2 compresses them. */
async function compress(tool: 'xz' | 'bzip2', plain: Buffer): Promise<Buffer> {
  const { command, args, env } = await tools.command(tool);
  const [from, to] = [join(dir, 'in'), join(dir, 'out')];
  await writeFile(from, plain);
  await exec('sh', ['-c', '"$@" -c "$0" > "$OUT"', from, command, ...args], { env: { ...env, OUT: to } });
  const bytes = await readFile(to);
  for (const path of [from, to]) await rm(path);
  return bytes;
}

/** By each archive kind, its bytes, packed by the real tools. */
async function packed(kind: string): Promise<Buffer> {
  const tar = tarOf(tree);
  switch (kind) {
    case 'tar':
      return tar;
    case 'tar.xz':
      return compress('xz', tar);
    case 'tar.bz2':
      return compress('bzip2', tar);
    case 'tar.zst':
      return zstdCompressSync(tar);
    default:
      return gzipSync(tar);
  }
}

/** Unpacks bytes under a name and gives the refusal; nothing may be left then. */
async function refusal(name: string, bytes: Buffer, limits?: UnpackOptions['limits']): Promise<string> {
  const file = join(dir, 'archive');
  const dest = join(dir, 'dest');
  await writeFile(file, bytes);
  const error = await unpack(file, name, dest, { ...options, limits }).then(
    () => new Error('it was unpacked'),
    (reason: unknown) => reason as Error,
  );
  expect(error).toBeInstanceOf(UserError);
  await expect(access(dest)).rejects.toThrow();
  expect((await readdir(dir)).toSorted()).toEqual(['archive']);
  return error.message;
}

test.each([
  ['a.tar.gz', 'tar', 'gzip'],
  ['a.tgz', 'tar', 'gzip'],
  ['a-1.0.tar.xz', 'tar', 'xz'],
  ['a.tar.zst', 'tar', 'zstd'],
  ['a.tar.zstd', 'tar', 'zstd'],
  ['a.tar.bz2', 'tar', 'bzip2'],
  ['a.tar', 'tar', undefined],
  ['a.txz', 'tar', 'xz'],
  ['a.tbz2', 'tar', 'bzip2'],
  ['a.tzst', 'tar', 'zstd'],
  ['a_1.0_amd64.deb', 'deb', undefined],
  ['tool.gz', 'raw', 'gzip'],
  ['tool.xz', 'raw', 'xz'],
  ['tool.zst', 'raw', 'zstd'],
  ['tool.bz2', 'raw', 'bzip2'],
  ['a.zip', 'zip', undefined],
  ['kubelet', 'raw', undefined],
  ['tool.v1.2', 'raw', undefined],
])('%s is a %s, packed by %s', (name, archive, by) => {
  expect(archiveKind(name)).toEqual({ archive, packed: by });
});

test.each(['tar', 'tar.gz', 'tgz', 'tar.xz', 'tar.zst', 'tar.bz2'])('a real %s is fetched by its pin and unpacked', async (kind) => {
  const bytes = await packed(kind);
  await fetched(`tool.${kind}`, bytes, async (files) => {
    expect(await readFile(join(files, 'tool-1.0/bin/tool'), 'utf8')).toContain('echo 1.0');
    expect((await stat(join(files, 'tool-1.0/bin/tool'))).mode & 0o7777).toBe(0o755);
    expect((await stat(join(files, 'tool-1.0/README'))).mode & 0o7777).toBe(0o644);
    expect(await readFile(join(files, 'tool-1.0/link'), 'utf8')).toContain('echo 1.0');
  });
});

test('a zip is fetched by its pin and unpacked', async () => {
  await fetched(
    'tool.zip',
    zipOf([
      { path: 'tool', body: 'program' },
      { path: 'doc/README', body: 'text', mode: 0o100644 },
    ]),
    async (files) => {
      expect(await readFile(join(files, 'tool'), 'utf8')).toBe('program');
      expect((await stat(join(files, 'tool'))).mode & 0o111).toBe(0o111);
      expect((await stat(join(files, 'doc/README'))).mode & 0o111).toBe(0);
    },
  );
});

test.each(['', '.gz', '.xz'])('a single program, compressed or not (%s), is called as its component', async (suffix) => {
  const plain = Buffer.from('program');
  const bytes = suffix === '' ? plain : suffix === '.gz' ? gzipSync(plain) : await compress('xz', plain);
  await fetched(`tool-linux-amd64${suffix}`, bytes, async (files) => {
    expect(await readdir(files)).toEqual(['tool']);
    expect(await readFile(join(files, 'tool'), 'utf8')).toBe('program');
    expect((await stat(join(files, 'tool'))).mode & 0o777).toBe(0o755);
  });
});

/** Origin `release` from end to end, from a mirror that serves one file, with a pin of its own; fetched once for two builds. */
async function fetched(name: string, bytes: Buffer, check: (files: string) => Promise<void>): Promise<void> {
  server = await serve({ [`/dl.example.org/v1.0/${name}`]: bytes });
  const store = openStore(join(dir, 'store'));
  const origin = { kind: 'upstream', url: `https://dl.example.org/v{version}/${name}` } as const;
  const context = {
    component: { name: 'tool', version: '1.0', origins: [origin], install: [] },
    dir,
    arch: 'x86-64',
    pin: {
      revision: 0,
      coupled: {},
      licenses: {},
      bytes: {
        [`https://dl.example.org/v1.0/${name}`]: {
          sha256: createHash('sha256').update(bytes).digest('hex'),
          size: bytes.length,
          proof: 'nothing published: as first downloaded',
        },
      },
    },
    store,
    tools,
    toolchains: openToolchains(store),
    sandbox: openSandbox(store, tools),
    records: pinnedRecords(hostArch()),
    report: () => undefined,
    mirror: server.url,
  } as const;
  const { dir: files, materials } = await buildUpstream(origin, context);
  await check(files);
  expect(materials).toEqual([
    expect.objectContaining({ locator: `https://dl.example.org/v1.0/${name}`, proof: 'nothing published: as first downloaded' }),
  ]);
  expect((await buildUpstream(origin, context)).dir).toBe(files);
  expect(server.asked).toHaveLength(1);
}

/** Unpacks bytes under a name, and gives the paths that are there then. */
async function accepted(name: string, bytes: Buffer, unpacking: UnpackOptions = options): Promise<string[]> {
  await writeFile(join(dir, 'archive'), bytes);
  await rm(join(dir, 'dest'), { recursive: true, force: true });
  await unpack(join(dir, 'archive'), name, join(dir, 'dest'), unpacking);
  const entries = await readdir(join(dir, 'dest'), { recursive: true, withFileTypes: true });
  return entries.map((entry) => join(entry.parentPath, entry.name).slice(dir.length + '/dest/'.length)).toSorted();
}

const file: TarPart = { path: 'a', body: 'a' };
const deep = (levels: number): string => 'd/'.repeat(levels);

test.each<[string, TarPart[], RegExp]>([
  ['a path that leads out', [{ path: '../evil', body: 'x' }], /'\.\.\/evil' leads out/],
  ['a path that leads out from within', [{ path: 'a/../../evil', body: 'x' }], /leads out/],
  ['an absolute path', [{ path: '/etc/passwd', body: 'x' }], /absolute/],
  ['a path that leads out, in a pax header', [pax({ path: '../evil' }), file], /leads out/],
  ['a path that leads out, in a header of GNU', [{ path: 'x', type: 'L', body: '../evil\0' }, file], /leads out/],
  ['a path that leads out, by a prefix', [{ path: 'evil', prefix: '..' }], /leads out/],
  ['a link to an absolute path', [{ path: 'l', type: '2', link: '/etc/passwd' }], /links out of the archive, to '\/etc\/passwd'/],
  ['a link that leads out', [{ path: 'd/l', type: '2', link: '../../x' }], /links out/],
  ['a link that leads out, in a pax header', [pax({ linkpath: '../x' }), { path: 'l', type: '2', link: 'a' }], /links out/],
  ['a link without a target', [{ path: 'l', type: '2' }], /target is empty/],
  [
    'a link that leads out by a link before it',
    [
      { path: 'top/a/b/c/s', type: '2', link: '../../../..' },
      { path: 'top/esc', type: '2', link: 'a/b/c/s/../host' },
    ],
    /'top\/esc' is a link with '\.\.' after another link/,
  ],
  [
    'a link that leads out by a link after it',
    [
      { path: 'top/esc', type: '2', link: 'a/b/c/s/../host' },
      { path: 'top/a/b/c/s', type: '2', link: '../../../..' },
    ],
    /'top\/esc' is a link with '\.\.' after another link/,
  ],
  [
    'a link that leads out by the target of another',
    [
      { path: 'up', type: '2', link: 'a/b/down/../../..' },
      { path: 'a/b/down', type: '2', link: '../../x' },
      { path: 'x/y', body: 'x' },
    ],
    /'up' is a link with '\.\.' after another link/,
  ],
  [
    'links that each lead one level up too many',
    [
      { path: 'a/b/one', type: '2', link: '../two' },
      { path: 'a/two', type: '2', link: '../far/x' },
      { path: 'far', type: '2', link: 'a/b/c/d' },
      { path: 'a/b/c/d/x', body: 'x' },
      { path: 'out', type: '2', link: 'far/../../../../../x' },
    ],
    /'out' (links out|is a link with)/,
  ],
  ['a link to itself', [{ path: 'l', type: '2', link: 'l' }], /leads in a circle/],
  [
    'a file below a link',
    [
      { path: 'l', type: '2', link: 'd' },
      { path: 'l/x', body: 'x' },
    ],
    /lies below 'l'/,
  ],
  ['a file below a file', [file, { path: 'a/b', body: 'x' }], /lies below 'a'/],
  ['a hard link out', [{ path: 'h', type: '1', link: '../../etc/passwd' }], /leads out/],
  ['a hard link to nothing', [{ path: 'h', type: '1', link: 'nothing' }], /is not a file of the archive/],
  [
    'a hard link to a link',
    [
      { path: 'l', type: '2', link: 'good' },
      { path: 'h', type: '1', link: 'l' },
    ],
    /is not a file of the archive/,
  ],
  ['a hard link with content', [file, { path: 'h', type: '1', link: 'a', body: 'x' }], /is a hardlink with content/],
  ['a character device', [{ path: 'null', type: '3' }], /is a character device/],
  ['a block device', [{ path: 'sda', type: '4' }], /is a block device/],
  ['a fifo', [{ path: 'pipe', type: '6' }], /is a FIFO/],
  ['a type that nobody knows', [{ path: 'x', type: 'z' }], /is of the unknown type "z"/],
  ['a sparse file of GNU', [{ path: 'x', type: 'S' }], /is a sparse file/],
  ['a sparse file of POSIX', [pax({ 'GNU.sparse.major': '1', 'GNU.sparse.name': 'x' }), file], /is a sparse file/],
  ['a sparse file of star', [pax({ 'SCHILY.realsize': '1000' }), file], /is a sparse file/],
  ['another volume', [{ path: 'x', type: 'M' }], /on another volume/],
  ['a path for all that follows', [pax({ path: 'x' }, 'g'), file], /sets 'path' for all/],
  ['a file that is there twice', [file, { path: './a', body: 'b' }], /exists twice/],
  [
    'a file in place of a folder',
    [
      { path: 'd/x', body: 'x' },
      { path: 'd', body: 'x' },
    ],
    /exists twice/,
  ],
  [
    'a link in place of a folder',
    [
      { path: 'd/x', body: 'x' },
      { path: 'd', type: '2', link: 'good' },
    ],
    /exists twice/,
  ],
  ['a setuid program', [{ path: 'su', body: 'x', mode: 0o4755 }], /setuid/],
  ['a setgid program', [{ path: 'sg', body: 'x', mode: 0o2755 }], /setgid/],
  ['a backslash', [{ path: String.raw`a\b`, body: 'x' }], /backslashes/],
  ['a line end in a name', [{ path: 'a\nb', body: 'x' }], /control characters/],
  ['a line end in a target', [{ path: 'l', type: '2', link: 'a\nb' }], /control characters/],
  ['a NUL in a pax header', [pax({ path: 'good\0evil' }), file], /NUL/],
  ['a file larger than any', [{ path: 'huge', size: 2 ** 40 }], /larger than/],
  ['a size that is no number', [pax({ size: '1x' }), file], /not a number/],
  ['a wrong checksum', [{ path: 'x', sum: '0001234\0' }], /wrong checksum/],
  ['a pax header that is cut off', [{ path: 'x', type: 'x', body: '99 path=x\n' }, file], /a pax header is damaged/],
  ['an extended header without its entry', [pax({ path: 'x' })], /ends after the header of an entry/],
  ['a huge extended header', [pax({ comment: 'x'.repeat(2 << 20) }), file], /extended header is larger than/],
  ['folders nested too deep', [pax({ path: `${deep(64)}x` }), file], /more than 64 folders deep/],
  [
    'a long path',
    [pax({ path: `${'name/'.repeat(50)}${'x'.repeat(250)}/${'y'.repeat(250)}/${'z'.repeat(250)}/${'w'.repeat(250)}` }), file],
    /more than 1024 bytes/,
  ],
  ['a long name', [pax({ path: 'x'.repeat(256) }), file], /name of more than 255 bytes/],
])('a tar with %s is refused', async (_, parts, why) => {
  expect(await refusal('a.tar.gz', gzipSync(tarOf([{ path: 'good', body: 'good' }, ...parts])))).toMatch(why);
});

test.each<[string, TarPart[], string[]]>([
  ['names in pax headers', [pax({ path: 'näme', mtime: '1.5', 'SCHILY.xattr.user.x': 'y' }), file], ['good', 'näme']],
  [
    'names in headers of GNU',
    [
      { path: 'x', type: 'L', body: 'long/name\0' },
      { path: 'x', type: 'K', body: '../good\0' },
      { path: 's', type: '2', link: 'y' },
    ],
    ['good', 'long', 'long/name'],
  ],
  ['a prefix', [{ path: 'a', prefix: 'p/q' }], ['good', 'p', 'p/q', 'p/q/a']],
  ["git's comment", [pax({ comment: 'b5bb9d8014a0f9b1d61e21e796d78dccdf1352f2' }, 'g'), file], ['a', 'good']],
  [
    'a folder that comes twice and after its files',
    [{ path: 'd/x' }, { path: 'd/', type: '5' }, { path: './d', type: '5' }],
    ['d', 'd/x', 'good'],
  ],
  ['a folder of before POSIX', [{ path: 'd/', type: '0' }], ['d', 'good']],
  ['a hard link', [file, { path: 'h', type: '1', link: './a' }], ['a', 'good', 'h']],
  [
    'links to links, folders and nothing',
    [
      { path: 'a/b', body: 'x' },
      { path: 'l', type: '2', link: 'a' },
      { path: 'm', type: '2', link: 'l/b' },
      { path: 'a/n', type: '2', link: '../nothing' },
    ],
    ['a', 'a/b', 'a/n', 'good', 'l', 'm'],
  ],
  ['a link to its own folder', [{ path: 'd/here', type: '2', link: '.' }], ['d', 'd/here', 'good']],
  [
    '63 folders',
    [pax({ path: `${deep(63)}x` }), file],
    [...Array.from({ length: 63 }, (_, index) => deep(index + 1).slice(0, -1)), `${deep(63)}x`, 'good'],
  ],
])('a tar with %s is unpacked', async (_, parts, paths) => {
  expect(await accepted('a.tar', tarOf([{ path: 'good', body: 'good' }, ...parts]))).toEqual(paths.toSorted());
});

test('what headers before an entry say reaches that entry only', async () => {
  await accepted(
    'a.tar',
    tarOf([
      { path: 'x', type: 'K', body: 'target\0' },
      { path: 'one', type: '2', link: 'y' },
      { path: 'two', type: '2', link: 'z' },
    ]),
  );
  expect(await readlink(join(dir, 'dest/one'))).toBe('target');
  expect(await readlink(join(dir, 'dest/two'))).toBe('z');
});

const good = tarPart({ path: 'good', body: 'good' });
test.each<[string, Buffer, RegExp]>([
  ['nothing', Buffer.alloc(0), /its end is missing/],
  ['no end', good, /its end is missing/],
  ['half of its end', Buffer.concat([good, Buffer.alloc(512)]), /the second half of its end is missing/],
  ['an entry behind half of its end', Buffer.concat([good, Buffer.alloc(512), good, TAR_END]), /entries behind an empty block/],
  ['an entry behind its end', Buffer.concat([good, TAR_END, good, TAR_END]), /data behind its end/],
  ['another tar behind it', Buffer.concat([tarOf([file]), tarOf([{ path: 'b' }])]), /data behind its end/],
  ['a byte behind its end', Buffer.concat([good, TAR_END, Buffer.alloc(4000), Buffer.from('x')]), /data behind its end/],
  ['2 MiB of zeros behind its end', Buffer.concat([good, TAR_END, Buffer.alloc(2 << 20)]), /more than 1048576 bytes behind its end/],
  ['a header that is cut', good.subarray(0, 500), /in the middle of a header/],
  ['content that is cut', good.subarray(0, 514), /ends in the middle/],
  ['padding that is cut', good.subarray(0, 600), /ends in the middle/],
])('a tar with %s is refused', async (_, bytes, why) => {
  expect(await refusal('a.tar', bytes)).toMatch(why);
  expect(await refusal('a.tar.zst', zstdCompressSync(bytes))).toMatch(why);
});

test('zeros up to the end of a record are part of a tar', async () => {
  expect(await accepted('a.tar', Buffer.concat([good, TAR_END, Buffer.alloc(10240 - 2048)]))).toEqual(['good']);
});

const halves = (): [Buffer, Buffer] => {
  const tar = tarOf([{ path: 'good', body: randomBytes(300_000).toString('base64') }]);
  return [tar.subarray(0, 200_000), tar.subarray(200_000)];
};
const packers = {
  gz: async (bytes: Buffer) => gzipSync(bytes),
  zst: async (bytes: Buffer) => zstdCompressSync(bytes),
  xz: async (bytes: Buffer) => compress('xz', bytes),
  bz2: async (bytes: Buffer) => compress('bzip2', bytes),
};
const kinds = Object.keys(packers) as (keyof typeof packers)[];

test.each(kinds)('a tar in two streams of %s is read whole, and a part of it is not taken for the whole', async (kind) => {
  const [one, two] = (await Promise.all(halves().map(async (half) => half))) as [Buffer, Buffer];
  const [first, second] = [await packers[kind](one), await packers[kind](two)];
  const whole = Buffer.concat([first, second]);
  expect(await accepted(`a.tar.${kind}`, whole)).toEqual(['good']);
  expect((await stat(join(dir, 'dest/good'))).size).toBe(400_000);
  if (kind === 'xz') {
    await rm(join(dir, 'dest'), { recursive: true });
    expect(await accepted('a.tar.xz', whole, {}), 'without a program').toEqual(['good']);
  }
  await rm(join(dir, 'dest'), { recursive: true });
  expect(await refusal(`a.tar.${kind}`, first), 'the first stream').toMatch(/damaged or cut off/);
  expect(await refusal(`a.tar.${kind}`, whole.subarray(0, -1)), 'the last byte is missing').toMatch(/damaged or cut off/);
  expect(await refusal(`a.tar.${kind}`, whole.subarray(0, first.length + 3)), 'cut in a header').toMatch(/damaged or cut off/);
});

test.each(kinds.flatMap((kind) => [1, 12, 70_000].map((length) => [kind, length] as const)))(
  'a tar.%s with %i bytes of garbage behind it is refused',
  async (kind, length) => {
    const packed = await packers[kind](tarOf([file]));
    for (const garbage of [Buffer.alloc(length, 'x'), Buffer.alloc(length, '\0garbage')]) {
      expect(await refusal(`a.tar.${kind}`, Buffer.concat([packed, garbage]))).toMatch(/damaged or cut off/);
      if (kind === 'xz') {
        await writeFile(join(dir, 'archive'), Buffer.concat([packed, garbage]));
        await expect(unpack(join(dir, 'archive'), 'a.tar.xz', join(dir, 'dest')), 'without a program').rejects.toThrow(
          /damaged or cut off/,
        );
      }
    }
  },
);

test('zstd frames that hold nothing are skipped; frames that need a dictionary or gigabytes of memory are refused', async () => {
  const tar = zstdCompressSync(tarOf([file]));
  const skippable = Buffer.concat([Buffer.from([0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0]), Buffer.from('text')]);
  expect(await accepted('a.tar.zst', Buffer.concat([skippable, tar, zstdCompressSync(Buffer.alloc(0)), skippable]))).toEqual(['a']);
  await rm(join(dir, 'dest'), { recursive: true });
  const frame = (descriptor: number, ...more: number[]): Buffer => Buffer.from([0x28, 0xb5, 0x2f, 0xfd, descriptor, ...more]);
  expect(await refusal('a.tar.zst', frame(1, 0x50, 7, 1, 0, 0))).toMatch(/needs a dictionary/);
  expect(await refusal('a.tar.zst', frame(0, 0xa8, 9, 0, 0, 65))).toMatch(/damaged or cut off.*(?:memory|window)/i); // 2 GiB of window
});

test.each(kinds)('one program in a %s file is unpacked under its own name, whole', async (kind) => {
  const [one, two] = halves();
  const packed = Buffer.concat([await packers[kind](one), await packers[kind](two)]);
  expect(await accepted(`tool-1.0.${kind}`, packed)).toEqual(['tool-1.0']);
  expect(await readFile(join(dir, 'dest/tool-1.0'))).toEqual(Buffer.concat([one, two]));
  expect((await stat(join(dir, 'dest/tool-1.0'))).mode & 0o777).toBe(0o755);
  expect(await accepted(`tool-1.0.${kind}`, packed, { ...options, single: 'tool' })).toEqual(['tool']);
  await rm(join(dir, 'dest'), { recursive: true });
  expect(await refusal(`tool.${kind}`, packed.subarray(0, -1))).toMatch(/damaged or cut off/);
  expect(await refusal(`tool.${kind}`, packed, { bytes: 300_000 })).toMatch(/larger than 300000 bytes/);
});

test('what grows beyond its limits is refused before it is written', async () => {
  const bomb = gzipSync(tarOf([{ path: 'zeros', body: '\0'.repeat(5 << 20) }]));
  expect(bomb.length).toBeLessThan(20_000);
  expect(await refusal('a.tar.gz', bomb, { bytes: 1 << 20, entries: 10 })).toMatch(/larger than 1048576 bytes/);
  const many = tarOf(Array.from({ length: 20 }, (_, index) => ({ path: `f${index}` })));
  expect(await refusal('a.tar', many, { bytes: 1 << 20, entries: 10 })).toMatch(/one entry too many/);
  expect(await refusal('a.tar', many, { bytes: 5_000 }), 'headers count').toMatch(/larger than 5000 bytes/);
  expect(await refusal('a.tar', tarOf([{ path: 'a/b/c/d' }, { path: 'e/f/g/h' }]), { entries: 7 }), 'implied folders count').toMatch(
    /one entry too many/,
  );
  expect(await accepted('a.tar', tarOf([{ path: 'a/b/c/d' }, { path: 'e/f/g/h' }]), { limits: { entries: 8 } })).toHaveLength(8);
  await rm(join(dir, 'dest'), { recursive: true });
  expect(await refusal('a.tar', many, { seconds: 0 })).toMatch(/after more than 0 seconds/);
  const zip = zipOf([{ path: 'zeros', body: Buffer.alloc(5 << 20), deflated: true }]);
  expect(await refusal('a.zip', zip, { bytes: 1 << 20 })).toMatch(/larger than 1048576 bytes/);
  expect(await refusal('a.zip', zipOf([{ path: 'a' }, { path: 'b' }]), { entries: 1 })).toMatch(/one entry too many/);
  const liar = zipOf([{ path: 'zeros', body: Buffer.alloc(5 << 20), deflated: true, size: 100 }]);
  expect(await refusal('a.zip', liar)).toMatch(/contains more than the 100 bytes|damaged/);
});

test.each(['gz', 'zst', 'xz'] as const)('512 MiB of zeros behind the end of a tar.%s are refused in seconds', async (kind) => {
  const zeros = Buffer.alloc(64 << 20);
  // Streams behind each other are one: what compresses 64 MiB need not be told to eight times.
  const [first, more] = [await packers[kind](tarOf([file])), await packers[kind](zeros)];
  const bomb = Buffer.concat([first, ...Array.from({ length: 8 }, () => more)]);
  await writeFile(join(dir, 'archive'), bomb);
  const before = process.memoryUsage().rss;
  const began = performance.now();
  await expect(unpack(join(dir, 'archive'), `a.tar.${kind}`, join(dir, 'dest'), options)).rejects.toThrow(/behind its end/);
  expect(performance.now() - began).toBeLessThan(10_000); // under any load; it was 92 seconds, and is 0.1
  expect(process.memoryUsage().rss - before).toBeLessThan(200 << 20);
});

test('a bomb of folders is refused: each folder that a path implies counts', async () => {
  const parts = Array.from({ length: 500 }, (_, index) => ({ path: `${index}/${deep(40)}x` }));
  expect(await refusal('a.tar.zst', zstdCompressSync(tarOf(parts)), { entries: 1000 })).toMatch(/'23\/.*' is one entry too many: 1000/);
});

test('links through links are resolved once each', async () => {
  // Each leads through the one before it: followed every time from the start, this would be 2^39 steps.
  const parts = Array.from({ length: 39 }, (_, index) => ({
    path: `l${index}`,
    type: '2',
    link: index === 0 ? '.' : `l${index - 1}/l${index - 1}`,
  }));
  expect(await accepted('a.tar', tarOf(parts))).toHaveLength(39);
  await rm(join(dir, 'dest'), { recursive: true });
  const chain = Array.from({ length: 60 }, (_, index) => ({ path: `l${index}`, type: '2', link: `l${index + 1}` }));
  expect(await refusal('a.tar', tarOf(chain))).toMatch(/through too many others/);
});

test('an archive that is refused in the middle leaves nothing, and tells the first reason', async () => {
  const many = Array.from({ length: 30 }, (_, index): TarPart => ({ path: `f${index}`, body: 'x'.repeat(200_000) }));
  const after = Array.from({ length: 50 }, (_, index): TarPart => ({ path: `after${index}`, body: 'x' }));
  const refused = tarOf([...many, { path: '../evil' }, ...after, { path: '/absolute' }]);
  const cut = gzipSync(tarOf(many)).subarray(0, -100);
  const xz = await compress('xz', refused);
  for (let times = 0; times < 50; times += 1) {
    expect(await refusal('a.tar', refused)).toMatch(/'\.\.\/evil' leads out of the archive/);
    expect(await refusal('a.tar.gz', cut)).toMatch(/damaged or cut off/);
    if (times % 25 === 0) expect(await refusal('a.tar.xz', xz)).toMatch(/'\.\.\/evil' leads out of the archive/);
  }
});

test.each(['tar', 'tar.gz', 'tar.zst', 'tar.xz', 'zip'])('a %s that is interrupted leaves nothing', async (kind) => {
  const many = Array.from({ length: 300 }, (_, index) => ({ path: `f${index}`, body: randomBytes(20_000) }));
  const tar = tarOf(many);
  const bytes = kind === 'zip' ? zipOf(many) : kind === 'tar' ? tar : await packers[kind.slice(4) as 'gz'](tar);
  await writeFile(join(dir, 'archive'), bytes);
  let stopped = 0;
  for (const delay of [0, 1, 2, 5, 10, 20]) {
    const controller = new AbortController();
    const unpacking = interruptible(controller.signal, () => unpack(join(dir, 'archive'), `a.${kind}`, join(dir, 'dest'), options));
    const settled = unpacking.then(
      () => 'unpacked',
      (error: unknown) => (error as Error).message,
    );
    await sleep(delay);
    controller.abort(new UserError('stopped'));
    const said = await settled;
    if (said === 'unpacked') await rm(join(dir, 'dest'), { recursive: true });
    else {
      stopped += 1;
      expect(said).toBe('stopped');
      await expect(access(join(dir, 'dest'))).rejects.toThrow(/ENOENT/);
    }
  }
  expect(stopped).toBeGreaterThan(0);
});

test.each(['tar.gz', 'tar.xz', 'tar.zst', 'tar.bz2'])('a %s that is cut off is refused, wherever', async (kind) => {
  const bytes = await packed(kind);
  for (const part of [0, 0.1, 0.5, 0.9]) {
    expect(await refusal(`a.${kind}`, bytes.subarray(0, Math.floor(bytes.length * part)))).toMatch(/damaged or cut off/);
  }
});

test.each<[string, ZipPart[], RegExp]>([
  ['../evil', [{ path: '../evil' }], /\.\./],
  ['/etc/passwd', [{ path: '/etc/passwd' }], /absolute/],
  ['a link', [{ path: 'link', mode: 0o120777 }], /is a link in a zip file/],
  ['a FIFO', [{ path: 'fifo', mode: 0o010644 }], /is a FIFO/],
  ['a character device', [{ path: 'null', mode: 0o020644 }], /is a character device/],
  ['a block device', [{ path: 'sda', mode: 0o060644 }], /is a block device/],
  ['a socket', [{ path: 'socket', mode: 0o140644 }], /is a socket/],
  ['a folder that its name calls a file', [{ path: 'd', mode: 0o040755 }], /of a type that its name does not have/],
  ['a file that its name calls a folder', [{ path: 'd/', mode: 0o100755 }], /of a type that its name does not have/],
  ['a folder with content', [{ path: 'd/', body: 'x', mode: 0o040755 }], /folder with content/],
  ['a setuid program', [{ path: 'su', mode: 0o104755 }], /setuid/],
  ['one name twice', [{ path: 'a' }, { path: 'a' }], /exists twice/],
  ['a wrong CRC-32', [{ path: 'a', body: 'text', centralCrc: 1 }], /wrong CRC-32/],
  ['a wrong CRC-32 of a deflated file', [{ path: 'a', body: 'text', centralCrc: 1, deflated: true }], /wrong CRC-32/],
  ['a wrong CRC-32 of a large file', [{ path: 'a', body: Buffer.alloc(3 << 20), centralCrc: 1, deflated: true }], /wrong CRC-32/],
  ['another CRC-32 in the local header', [{ path: 'a', body: 'text', localCrc: 1 }], /local header that differs/],
  ['another name in the local header', [{ path: 'a', body: 'text', localPath: 'b' }], /local header that differs/],
  ['another CRC-32 behind the data', [{ path: 'a', body: 'text', descriptor: true, descriptorCrc: 1 }], /data descriptor that differs/],
  ['a size that is too small', [{ path: 'a', body: 'text', deflated: true, size: 3 }], /contains more than the 3 bytes|damaged/],
  ['a size that is too large', [{ path: 'a', body: 'text', deflated: true, size: 5 }], /contains 4 bytes, and its header gives 5/],
  ['data behind a deflate stream', [{ path: 'a', body: 'text', deflated: true, slack: 'hidden' }], /behind the end of its deflate stream/],
  [
    'data behind a large deflate stream',
    [{ path: 'a', body: randomBytes(2 << 20), deflated: true, slack: 'hidden' }],
    /behind the end of its deflate stream/,
  ],
  ['data between entries', [{ path: 'a' }, { path: 'b', before: 'hidden' }], /data before it that belongs to no entry/],
  ['data before the first entry', [{ path: 'a', before: '#!/bin/sh' }], /data before it that belongs to no entry/],
])('a zip with %s is refused', async (_, parts, why) => {
  expect(await refusal('a.zip', zipOf(parts))).toMatch(why);
});

test('a zip with data behind its last entry, behind its end, or cut off, is refused', async () => {
  const parts = [{ path: 'a', body: 'text' }];
  expect(await refusal('a.zip', zipOf(parts, { between: 'hidden' }))).toMatch(/between the last entry and the central directory/);
  expect(await refusal('a.zip', zipOf(parts, { after: 'hidden' }))).toMatch(/damaged or cut off/);
  expect(await refusal('a.zip', zipOf(parts).subarray(0, 40))).toMatch(/damaged or cut off/);
});

test('a zip is unpacked with folders, deflated files and sizes behind the data', async () => {
  const large = randomBytes(3 << 20);
  const parts: ZipPart[] = [
    { path: 'd/', mode: 0o040755 },
    { path: 'd/a', body: 'text', deflated: true, descriptor: true },
    { path: 'd/large', body: large, deflated: true },
    { path: 'd/stored', body: large, descriptor: true, mode: 0o100644 },
    { path: 'dos', body: '', mode: 0 },
  ];
  expect(await accepted('a.zip', zipOf(parts))).toEqual(['d', 'd/a', 'd/large', 'd/stored', 'dos']);
  for (const name of ['large', 'stored']) expect(await readFile(join(dir, 'dest/d', name))).toEqual(large);
  expect((await stat(join(dir, 'dest/dos'))).mode & 0o777).toBe(0o644);
});

const deb = tarOf([
  { path: './', type: '5' },
  { path: './usr/bin/tool', body: 'program' },
]);
test('a Debian package is unpacked like any archive, by whatever it is compressed', async () => {
  for (const [suffix, data] of [
    ['', deb],
    ['.gz', gzipSync(deb)],
    ['.zst', zstdCompressSync(deb)],
    ['.xz', await compress('xz', deb)],
  ] as const)
    expect(await accepted('a.deb', debOf(data, { suffix })), suffix).toEqual(['usr', 'usr/bin', 'usr/bin/tool']);
  expect(await accepted('a.deb', debOf(await compress('xz', deb), { suffix: '.xz' }), {}), 'without a program').toContain('usr/bin/tool');
  const signature: [string, Buffer] = ['_gpgorigin', Buffer.from('sig')];
  expect(await accepted('a.deb', debOf(deb, { more: [signature] })), 'with a signature').toContain('usr/bin/tool');
});

test.each<[string, () => Buffer, RegExp]>([
  ['a device', () => debOf(tarOf([{ path: './dev/null', type: '3' }])), /is a character device/],
  ['a fifo', () => debOf(tarOf([{ path: './fifo', type: '6' }])), /is a FIFO/],
  ['a setuid program', () => debOf(tarOf([{ path: './su', mode: 0o4755 }])), /setuid/],
  ['an absolute link', () => debOf(tarOf([{ path: './l', type: '2', link: '/etc/passwd' }])), /links out/],
  ['a tar that is cut off', () => debOf(deb.subarray(0, -1024)), /its end is missing/],
  ['a frame that is cut off', () => debOf(gzipSync(deb).subarray(0, -9), { suffix: '.gz' }), /damaged or cut off/],
  ['two data members', () => debOf(deb, { more: [['data.tar', deb]] }), /three members/],
  [
    'its members in another order',
    () =>
      arOf([
        ['debian-binary', Buffer.from('2.0\n')],
        ['data.tar', deb],
        ['control.tar', deb],
      ]),
    /'data.tar' is not the control.tar/,
  ],
  [
    'another version',
    () =>
      arOf([
        ['debian-binary', Buffer.from('3.0\n')],
        ['control.tar', deb],
        ['data.tar', deb],
      ]),
    /unknown version/,
  ],
  ['an unknown compression', () => debOf(deb, { suffix: '.lz4' }), /'data.tar.lz4' is not the data.tar/],
  ['garbage behind it', () => Buffer.concat([debOf(deb), Buffer.from('garbage')]), /header of a member is damaged/],
  ['a member that is cut off', () => debOf(deb).subarray(0, -600), /it is cut off/],
  ['no ar archive in it', () => Buffer.from('<html>'), /not a Debian package/],
])('a Debian package with %s is refused', async (_, make, why) => {
  expect(await refusal('a.deb', make())).toMatch(why);
});

/** Unpacks packages one after the other into the same folder, as tools are installed. */
async function installed(...packages: readonly TarPart[][]): Promise<(path: string) => string> {
  for (const parts of packages) {
    await writeFile(join(dir, 'package'), debOf(tarOf(parts)));
    await unpackPackage(join(dir, 'package'), join(dir, 'root'));
  }
  return (path) => join(dir, 'root', path);
}

test('packages of a distribution keep modes and links; no file of theirs is setuid or setgid', async () => {
  const at = await installed([
    { path: './etc/alternatives/x', type: '2', link: '/usr/bin/x' },
    { path: './usr/lib/x-y.slice', type: '2', link: String.raw`../../lib/system\x2dslice` },
    { path: String.raw`./usr/lib/system\x2dslice`, body: 'x', mode: 0o644 },
    { path: './usr/bin/su', body: 'x', mode: 0o6755 },
    { path: './var/lib/secret/', type: '5', mode: 0o750 },
    { path: './var/log/journal/', type: '5', mode: 0o2755 },
    { path: './var/lib/secret/key', body: 'x', mode: 0o600 },
  ]);
  expect(await readlink(at('etc/alternatives/x'))).toBe('/usr/bin/x');
  const modes = await Promise.all(
    ['usr/bin/su', 'usr/lib/system\\x2dslice', 'var/lib/secret', 'var/lib/secret/key', 'var/log/journal'].map(async (path) =>
      ((await stat(at(path))).mode & 0o7777).toString(8),
    ),
  );
  expect(modes).toEqual(['755', '644', '750', '600', '2755']);
});

test('a later package replaces files of an earlier one, and writes through none of its links', async () => {
  const outside = join(dir, 'outside');
  await writeFile(outside, 'untouched');
  const first: TarPart[] = [
    { path: './doc', body: 'one' },
    { path: './file', type: '2', link: outside },
    { path: './folder', type: '2', link: dir },
    { path: './d/x', body: 'x' },
  ];
  const at = await installed(first, [
    { path: './doc', body: 'two' },
    { path: './file', body: 'two' },
  ]);
  expect(await readFile(at('doc'), 'utf8')).toBe('two');
  expect(await readFile(at('file'), 'utf8')).toBe('two');
  expect(await readFile(outside, 'utf8')).toBe('untouched');
  await expect(installed([{ path: './folder/outside', body: 'evil' }])).rejects.toThrow(/is a folder here, but not in another package/);
  await expect(installed([{ path: './d', body: 'evil' }])).rejects.toThrow(/is a folder in another package, but not in this one/);
  expect(await readFile(outside, 'utf8')).toBe('untouched');
});

test.each<[string, TarPart, RegExp]>([
  ['a device', { path: './null', type: '3' }, /is a character device/],
  ['a fifo', { path: './fifo', type: '6' }, /is a FIFO/],
  ['a path that leads out', { path: '../evil' }, /leads out/],
])('a package of a distribution with %s is refused', async (_, part, why) => {
  await expect(installed([part])).rejects.toThrow(why);
});

test('control files of a package are read, and of what is none it is said', async () => {
  const control = gzipSync(
    tarOf([
      { path: './', type: '5' },
      { path: './control', body: 'Package: x\nDescription: one\n two\nVersion: 1:2-3\n' },
      { path: './postinst', body: 'true' },
    ]),
  );
  const members = [
    ['debian-binary', Buffer.from('2.0\n')],
    ['control.tar.gz', control],
    ['data.tar', deb],
  ] as const;
  await writeFile(join(dir, 'a.deb'), arOf(members));
  expect([...(await readControlFiles(join(dir, 'a.deb'))).keys()]).toEqual(['control', 'postinst']);
  expect(await packageFields(join(dir, 'a.deb'), ['Version', 'Description', 'Source'])).toEqual({
    Version: '1:2-3',
    Description: 'one\n two',
  });
  await writeFile(join(dir, 'a.deb'), arOf(members).subarray(0, -5));
  await expect(readControlFiles(join(dir, 'a.deb'))).rejects.toThrow(/package is damaged: it is cut off/);
});

test('a tar that is written here is what GNU tar and unpack read, byte for byte the same each time', async () => {
  const from = join(dir, 'from');
  await mkdir(join(from, 'a/empty'), { recursive: true });
  const content = randomBytes(200_001);
  await writeFile(join(from, 'a/large'), content, { mode: 0o755 });
  await writeFile(join(from, 'x'.repeat(98)), '');
  await writeTar(from, join(dir, 'one'));
  await writeTar(from, join(dir, 'two'));
  expect(await readFile(join(dir, 'one'))).toEqual(await readFile(join(dir, 'two')));
  expect((await exec('tar', ['-tf', join(dir, 'one')])).split('\n')).toEqual(['a/', 'a/empty/', 'a/large', 'x'.repeat(98)]);
  expect(await accepted('a.tar', await readFile(join(dir, 'one')))).toEqual(['a', 'a/empty', 'a/large', 'x'.repeat(98)]);
  expect(await readFile(join(dir, 'dest/a/large'))).toEqual(content);
  expect((await stat(join(dir, 'dest/a/large'))).mode & 0o777).toBe(0o755);
  await symlink('a', join(from, 'link'));
  await expect(writeTar(from, join(dir, 'three'))).rejects.toThrow(/only files and folders/);
});

test('what is no archive at all is refused', async () => {
  for (const name of ['a.tar.gz', 'a.tar.xz', 'a.tar.zst', 'a.tar.bz2', 'a.tar', 'a.zip', 'a.deb'])
    expect(await refusal(name, Buffer.from('<html>not found</html>'))).toMatch(/damaged or cut off/);
});
