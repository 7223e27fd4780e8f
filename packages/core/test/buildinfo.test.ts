import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { deflateSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { embeddedModules, readGoBuildInfo } from '../src/inspect/go-buildinfo.ts';
import { readTree } from '../src/image/tree.ts';

let dir: string;
beforeAll(async () => void (dir = await mkdtemp(join(tmpdir(), 'buildinfo-'))));
afterAll(() => rm(dir, { recursive: true, force: true }));

/** A 64-bit ELF file of one section (System V ABI, chapter 4): header, its bytes, section names, section headers. */
function elfWith(section: string, bytes: Buffer): Buffer {
  const names = Buffer.from(`\0${section}\0.shstrtab\0`);
  const header = Buffer.alloc(64);
  header.writeUInt32BE(0x7f454c46, 0);
  header.set([2, 1, 1], 4);
  header.writeUInt16LE(2, 16);
  header.writeUInt16LE(62, 18);
  header.writeBigUInt64LE(BigInt(64 + bytes.length + names.length), 40);
  header.writeUInt16LE(3, 60);
  header.writeUInt16LE(2, 62);
  const sectionHeader = (name: number, offset: number, size: number): Buffer => {
    const one = Buffer.alloc(64);
    one.writeUInt32LE(name, 0);
    one.writeBigUInt64LE(BigInt(offset), 24);
    one.writeBigUInt64LE(BigInt(size), 32);
    return one;
  };
  const headers = [
    sectionHeader(0, 0, 0),
    sectionHeader(1, 64, bytes.length),
    sectionHeader(2 + section.length, 64 + bytes.length, names.length),
  ];
  return Buffer.concat([header, bytes, names, ...headers]);
}

const auditable = (value: object): Buffer => elfWith('.dep-v0', deflateSync(Buffer.from(JSON.stringify(value))));

async function modulesOf(files: Readonly<Record<string, Buffer>>): Promise<unknown> {
  const tree = await mkdtemp(join(dir, 'tree-'));
  for (const [path, bytes] of Object.entries(files)) {
    await mkdir(dirname(join(tree, path)), { recursive: true });
    await writeFile(join(tree, path), bytes);
  }
  return embeddedModules(await readTree(tree, new Map()));
}

test('crates that cargo auditable recorded are listed once, with the programs that hold them', async () => {
  const packages = [
    { name: 'memchr', version: '2.7.4', source: 'crates.io' },
    { name: 'cc', version: '1.2.0', source: 'crates.io', kind: 'build' },
    { name: 'own', version: '0.1.0', source: 'local', root: true },
  ];
  expect(await modulesOf({ 'usr/bin/one': auditable({ packages }), 'usr/bin/two': auditable({ packages: packages.slice(0, 1) }) })).toEqual(
    [{ type: 'cargo', name: 'memchr', version: '2.7.4', paths: ['usr/bin/one', 'usr/bin/two'] }],
  );
});

test.each([
  ['a section that is not packed', elfWith('.dep-v0', Buffer.from('plain'))],
  ['a section that is not JSON', elfWith('.dep-v0', deflateSync(Buffer.from('{')))],
  ['a section of another shape', auditable({ packages: [{ name: 1 }] })],
  ['a section that grows without end', elfWith('.dep-v0', deflateSync(Buffer.alloc(32 << 20)))],
  ['another section', elfWith('.text', deflateSync(Buffer.from('{"packages":[]}')))],
  ['a text', Buffer.from('#!/bin/sh\n')],
])('%s has none', async (_, bytes) => {
  expect(await modulesOf({ 'usr/bin/one': bytes })).toEqual([]);
});

/** A string with its length as a varint (encoding/binary, Uvarint). */
function inline(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length: number[] = [];
  for (let left = bytes.length; ; left >>>= 7) {
    if (left < 0x80) return Buffer.concat([Buffer.from([...length, left]), bytes]);
    length.push((left & 0x7f) | 0x80);
  }
}

/** The section .go.buildinfo as Go 1.18 and later write it (debug/buildinfo). */
function buildInfo(version: string, lines: readonly string[], flags = 2): Buffer {
  const header = Buffer.alloc(32);
  header.write('\xff Go buildinf:', 0, 'latin1');
  header.set([8, flags], 14);
  const mark = 'm'.repeat(16);
  return Buffer.concat([header, inline(version), inline(`${mark}${lines.join('\n')}\n${mark}`)]);
}

const goProgram = elfWith(
  '.go.buildinfo',
  buildInfo('go1.26.8 X:nodwarf5', [
    'path\texample.org/tool/cmd/tool',
    'mod\twrapper\t(devel)',
    'dep\texample.org/tool\tv1.2.3\th1:sum=',
    'dep\texample.org/replaced\tv1.0.0\th1:sum=',
    '=>\texample.org/fork\tv1.0.1\th1:sum=',
    `dep\texample.org/${'long/'.repeat(100)}name\tv0.1.0\th1:sum=`,
    'build\t-ldflags="-X main.version=1.2.3"',
    'build\tCGO_ENABLED=0',
    'build\t__proto__=x',
  ]),
);

test("Go's build info has the compiler, all modules with replaces applied, and the settings", async () => {
  const file = join(dir, 'tool');
  await writeFile(file, goProgram);
  const info = await readGoBuildInfo(file);
  expect(info).toMatchObject({ goVersion: 'go1.26.8 X:nodwarf5' });
  expect(info?.modules.map(({ path, version }) => `${path}@${version}`)).toEqual([
    'wrapper@(devel)',
    'example.org/tool@v1.2.3',
    'example.org/fork@v1.0.1',
    `example.org/${'long/'.repeat(100)}name@v0.1.0`,
  ]);
  expect(Object.entries(info?.settings ?? {})).toEqual([
    ['-ldflags', '"-X main.version=1.2.3"'],
    ['CGO_ENABLED', '0'],
    ['__proto__', 'x'],
  ]);
});

test('the SBOM lists the standard library and all modules of a Go program, without the lock module', async () => {
  expect(await modulesOf({ 'usr/bin/tool': goProgram })).toEqual([
    { type: 'golang', name: 'example.org/fork', version: 'v1.0.1', paths: ['usr/bin/tool'] },
    { type: 'golang', name: `example.org/${'long/'.repeat(100)}name`, version: 'v0.1.0', paths: ['usr/bin/tool'] },
    { type: 'golang', name: 'example.org/tool', version: 'v1.2.3', paths: ['usr/bin/tool'] },
    { type: 'golang', name: 'stdlib', version: '1.26.8', paths: ['usr/bin/tool'] },
  ]);
});

test.each([
  ['of another program', Buffer.from('no Go build info in here, but enough bytes for a header')],
  ['of Go before 1.18, which has pointers', buildInfo('go1.17', [], 0)],
  ['that ends in its header', buildInfo('go1.26', []).subarray(0, 20)],
  ['that ends in the version', buildInfo('go1.26', []).subarray(0, 35)],
  ['that ends in the modules', buildInfo('go1.26', ['dep\ta\tv1']).subarray(0, 50)],
  ['with a length without end', Buffer.concat([buildInfo('', []).subarray(0, 32), Buffer.alloc(10, 0xff)])],
])('a section %s gives no build info', async (_, bytes) => {
  const file = join(dir, 'damaged');
  await writeFile(file, elfWith('.go.buildinfo', bytes));
  expect(await readGoBuildInfo(file)).toBeUndefined();
});
