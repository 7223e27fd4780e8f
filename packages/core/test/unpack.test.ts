import { hostArch } from '../src/arch.ts';
import { createHash } from 'node:crypto';
import { access, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32, gzipSync, zstdCompressSync } from 'node:zlib';
import { Header } from 'tar';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { UserError } from '../src/errors.ts';
import { buildRelease } from '../src/origins/release.ts';
import { exec } from '../src/exec.ts';
import { openStore } from '../src/store.ts';
import { pinnedRecords } from '../src/tool-records.ts';
import { openToolchains } from '../src/toolchains.ts';
import { openTools } from '../src/tools.ts';
import { archiveKind, unpack, type UnpackOptions } from '../src/unpack.ts';
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

interface Entry {
  readonly path: string;
  readonly body?: string;
  readonly type?: 'File' | 'Directory' | 'SymbolicLink' | 'Link' | 'CharacterDevice' | 'BlockDevice' | 'FIFO';
  readonly link?: string;
  readonly mode?: number;
  /** What the header says, where it lies. */
  readonly size?: number;
}

/** A tar as bytes, headers written as they are asked for: no tool would write the hostile ones. */
function tarOf(entries: readonly Entry[]): Buffer {
  const blocks = entries.flatMap(({ path, body = '', type = 'File', link, mode = 0o755, size }) => {
    const header = new Header({
      path,
      type,
      mode,
      size: size ?? Buffer.byteLength(body),
      mtime: new Date(0),
      ...(link === undefined ? {} : { linkpath: link }),
    });
    header.encode();
    const padded = Buffer.alloc(Math.ceil(Buffer.byteLength(body) / 512) * 512);
    padded.write(body);
    return [header.block ?? Buffer.alloc(512), padded];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

const tree: Entry[] = [
  { path: './tool-1.0/', type: 'Directory' },
  { path: './tool-1.0/bin/tool', body: '#!/bin/sh\necho 1.0\n' },
  { path: './tool-1.0/README', body: 'read me', mode: 0o644 },
  { path: './tool-1.0/link', type: 'SymbolicLink', link: 'bin/tool' },
];

/** By each archive kind, its bytes, packed by the real tools. */
async function packed(kind: string): Promise<Buffer> {
  const tar = tarOf(tree);
  const filter = async (tool: 'xz' | 'bzip2'): Promise<Buffer> => {
    const { command, args, env } = await tools.command(tool);
    const [from, to] = [join(dir, 'in'), join(dir, 'out')];
    await writeFile(from, tar);
    await exec('sh', ['-c', '"$@" -c "$0" > "$OUT"', from, command, ...args], { env: { ...env, OUT: to } });
    return readFile(to);
  };
  switch (kind) {
    case 'tar':
      return tar;
    case 'tar.xz':
      return filter('xz');
    case 'tar.bz2':
      return filter('bzip2');
    case 'tar.zst':
      return zstdCompressSync(tar);
    default:
      return gzipSync(tar);
  }
}

/** A zip with stored entries (APPNOTE 4.3), as hostile as asked for. */
function zipOf(entries: readonly { path: string; body?: string; mode?: number }[]): Buffer {
  const locals: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  for (const { path, body = '', mode = 0o100755 } of entries) {
    const [name, data] = [Buffer.from(path), Buffer.from(body)];
    const crc = crc32(data);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(20, 4);
    local.writeUInt32LE(crc, 14);
    local.writeUInt32LE(data.length, 18);
    local.writeUInt32LE(data.length, 22);
    local.writeUInt16LE(name.length, 26);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE((3 << 8) | 20, 4);
    entry.writeUInt16LE(20, 6);
    entry.writeUInt32LE(crc, 16);
    entry.writeUInt32LE(data.length, 20);
    entry.writeUInt32LE(data.length, 24);
    entry.writeUInt16LE(name.length, 28);
    entry.writeUInt32LE((mode << 16) >>> 0, 38);
    entry.writeUInt32LE(offset, 42);
    locals.push(local, name, data);
    central.push(entry, name);
    offset += 30 + name.length + data.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...locals, directory, end]);
}

/** Unpacks bytes under a name and gives the refusal; nothing may be left then. */
async function refusal(name: string, bytes: Buffer, limits?: UnpackOptions['limits']): Promise<string> {
  const file = join(dir, 'archive');
  const dest = join(dir, 'dest');
  await writeFile(file, bytes);
  const error = await unpack(file, name, dest, { ...options, ...(limits === undefined ? {} : { limits }) }).then(
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
  ['a.txz', 'tar', 'xz'],
  ['a.tar.zst', 'tar', 'zstd'],
  ['a.tar.zstd', 'tar', 'zstd'],
  ['a.tar.bz2', 'tar', 'bzip2'],
  ['a.tar', 'tar', undefined],
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

test('a raw program is called as its component', async () => {
  await fetched('tool-linux-amd64', Buffer.from('program'), async (files) => {
    expect(await readdir(files)).toEqual(['tool']);
  });
});

/** Origin `release` from end to end, from a mirror that serves one file, with a pin of its own; fetched once for two builds. */
async function fetched(name: string, bytes: Buffer, check: (files: string) => Promise<void>): Promise<void> {
  server = await serve({ [`/dl.example.org/v1.0/${name}`]: bytes });
  const store = openStore(join(dir, 'store'));
  const origin = { kind: 'release', url: `https://dl.example.org/v{version}/${name}` } as const;
  const context = {
    component: { name: 'tool', version: '1.0', origins: [origin], places: [] },
    dir,
    arch: 'x86-64',
    pin: {
      revision: 0,
      with: {},
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
    records: pinnedRecords(hostArch()),
    report: () => undefined,
    mirror: server.url,
  } as const;
  const { dir: files, materials } = await buildRelease(origin, context);
  await check(files);
  expect(materials).toEqual([
    expect.objectContaining({ locator: `https://dl.example.org/v1.0/${name}`, proof: 'nothing published: as first downloaded' }),
  ]);
  expect((await buildRelease(origin, context)).dir).toBe(files);
  expect(server.asked).toHaveLength(1);
}

const file: Entry = { path: 'a', body: 'a' };
test.each<[string, Entry[], RegExp]>([
  ['a path that leads out', [{ path: '../evil', body: 'x' }], /'\.\.\/evil' leads out/],
  ['a path that leads out from within', [{ path: 'a/../../evil', body: 'x' }], /leads out/],
  ['an absolute path', [{ path: '/etc/passwd', body: 'x' }], /absolute/],
  [
    'a link to an absolute path',
    [{ path: 'l', type: 'SymbolicLink', link: '/etc/passwd' }],
    /links out of the archive, to '\/etc\/passwd'/,
  ],
  ['a link that leads out', [{ path: 'd/l', type: 'SymbolicLink', link: '../../x' }], /links out/],
  [
    'a file below a link',
    [
      { path: 'l', type: 'SymbolicLink', link: 'd' },
      { path: 'l/x', body: 'x' },
    ],
    /lies below 'l'/,
  ],
  ['a file below a file', [file, { path: 'a/b', body: 'x' }], /lies below 'a'/],
  ['a hard link out', [{ path: 'h', type: 'Link', link: '../../etc/passwd' }], /leads out/],
  ['a hard link to nothing', [{ path: 'h', type: 'Link', link: 'nothing' }], /is no file of the archive/],
  ['a character device', [{ path: 'null', type: 'CharacterDevice' }], /is a CharacterDevice/],
  ['a block device', [{ path: 'sda', type: 'BlockDevice' }], /is a BlockDevice/],
  ['a fifo', [{ path: 'pipe', type: 'FIFO' }], /is a FIFO/],
  ['a file that is there twice', [file, { path: './a', body: 'b' }], /is there twice/],
  [
    'a file in place of a folder',
    [
      { path: 'd/x', body: 'x' },
      { path: 'd', body: 'x' },
    ],
    /is there twice/,
  ],
  ['a setuid program', [{ path: 'su', body: 'x', mode: 0o4755 }], /setuid/],
  ['a setgid program', [{ path: 'sg', body: 'x', mode: 0o2755 }], /setgid/],
  ['a backslash', [{ path: String.raw`a\b`, body: 'x' }], /control characters or backslashes/],
  ['a file larger than any', [{ path: 'huge', size: 2 ** 40 }], /larger than|damaged or cut off/],
])('%s is refused', async (_, entries, why) => {
  expect(await refusal('a.tar.gz', gzipSync(tarOf([{ path: 'good', body: 'good' }, ...entries])))).toMatch(why);
});

test('what grows beyond its limits is refused before it is written', async () => {
  const bomb = gzipSync(tarOf([{ path: 'zeros', body: '\0'.repeat(5 << 20) }]));
  expect(bomb.length).toBeLessThan(20_000);
  expect(await refusal('a.tar.gz', bomb, { bytes: 1 << 20, entries: 10 })).toMatch(/larger than 1048576 bytes/);
  const many = tarOf(Array.from({ length: 20 }, (_, index) => ({ path: `f${index}` })));
  expect(await refusal('a.tar', many, { bytes: 1 << 20, entries: 10 })).toMatch(/one entry too many/);
});

test('a sparse file is refused: its size says nothing of what it takes', async () => {
  const content = join(dir, 'content');
  await mkdir(content);
  await exec('truncate', ['-s', '1G', join(content, 'sparse')]);
  await exec('tar', ['--sparse', '--format=gnu', '-cf', join(dir, 'sparse.tar'), '-C', content, 'sparse']);
  const bytes = await readFile(join(dir, 'sparse.tar'));
  await rm(content, { recursive: true });
  await rm(join(dir, 'sparse.tar'));
  expect(bytes.length).toBeLessThan(100_000);
  expect(await refusal('sparse.tar', bytes)).toMatch(/refused|damaged/);
});

test('an archive that is refused in the middle leaves nothing of what was being written', async () => {
  const many = Array.from({ length: 200 }, (_, index): Entry => ({ path: `f${index}/file`, body: 'x'.repeat(20_000) }));
  const refused = tarOf([...many, { path: '../evil' }, { path: 'after/a/b', body: 'x' }]);
  const cut = gzipSync(tarOf(many)).subarray(0, -100);
  for (let times = 0; times < 20; times += 1) {
    expect(await refusal('a.tar', refused)).toMatch(/leads out of the archive/);
    expect(await refusal('a.tar.gz', cut)).toMatch(/damaged or/);
  }
});

test.each(['tar.gz', 'tar.xz', 'tar.zst', 'tar.bz2'])('a %s that is cut off is refused, wherever', async (kind) => {
  const bytes = await packed(kind);
  for (const name of ['in', 'out']) await rm(join(dir, name), { force: true });
  for (const part of [0.1, 0.5, 0.9]) {
    expect(await refusal(`a.${kind}`, bytes.subarray(0, Math.floor(bytes.length * part)))).toMatch(/damaged or/);
  }
});

test.each([
  ['../evil', 0o100755, /\.\./],
  ['/etc/passwd', 0o100755, /absolute/],
  ['link', 0o120777, /is a link in a zip file/],
  ['su', 0o104755, /setuid/],
])('a zip with %s is refused', async (path, mode, why) => {
  expect(await refusal('a.zip', zipOf([{ path, body: 'x', mode }]))).toMatch(why);
});

test('a zip with one name twice, or cut off, is refused', async () => {
  expect(await refusal('a.zip', zipOf([{ path: 'a' }, { path: 'a' }]))).toMatch(/is there twice/);
  expect(await refusal('a.zip', zipOf([{ path: 'a', body: 'text' }]).subarray(0, 40))).toMatch(/damaged or refused/);
});

test('what is no archive at all is refused', async () => {
  for (const name of ['a.tar.gz', 'a.tar.xz', 'a.tar', 'a.zip'])
    expect(await refusal(name, Buffer.from('<html>not found</html>'))).toMatch(/damaged or/);
});
