import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { deflateSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { embeddedModules } from '../src/inspect/go-buildinfo.ts';
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
