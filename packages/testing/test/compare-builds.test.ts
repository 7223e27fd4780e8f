// scripts/compare-builds.ts pairs images by what they are, and fails on other bytes.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { hashFile, openStore, openTools, sidecarPaths } from '@flatcar/core/engine';
import { execa } from 'execa';
import { afterEach, beforeEach, expect, test } from 'vitest';

const script = resolve(import.meta.dirname, '../../../scripts/compare-builds.ts');
const tools = openTools(openStore());

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'compare-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

/** Writes an image of one file with its sidecars. */
async function image(path: string, text: string, more: object = {}): Promise<void> {
  const file = join(dir, path);
  const tree = `${file}.d`;
  await mkdir(join(tree, 'usr/bin'), { recursive: true });
  await mkdir(dirname(file), { recursive: true });
  await writeFile(join(tree, 'usr/bin/demo'), text);
  const options = ['-noappend', '-quiet', '-no-progress', '-all-root', '-comp', 'zstd', '-mkfs-time', '0', '-all-time', '0'];
  await tools.run('mksquashfs', [tree, file, ...options]);
  await rm(tree, { recursive: true });
  const manifest = { name: 'demo', version: '1.0', target: 'portable', architecture: 'x86-64', format: 'squashfs', profile: 'publish' };
  const { manifest: manifestPath, sbom, provenance } = sidecarPaths(file);
  await writeFile(manifestPath, JSON.stringify({ ...manifest, file: path, sha256: await hashFile(file), ...more }));
  for (const one of [sbom, provenance]) await writeFile(one, '{}');
}

async function compare(): Promise<{ code: number | undefined; out: string }> {
  const { exitCode, stdout, stderr } = await execa(process.execPath, [script, join(dir, 'before'), join(dir, 'after')], { reject: false });
  return { code: exitCode, out: `${stdout}${stderr}` };
}

test('images with the same bytes under other names and records are the same', async () => {
  await image('before/demo-1.0.raw', 'text', { profile: 'release' });
  await image('after/portable/demo.portable_1.0.raw', 'text');
  const { code, out } = await compare();
  expect(out).toContain('1 images have the same bytes, 0 have others, 0 are missing, 0 are new');
  expect(out).toContain('demo-1.0.raw → demo.portable_1.0.raw');
  expect(out).toContain('1 × manifest: profile, such as "release" → "publish"');
  expect(code).toBe(0);
});

test('other bytes fail, with the files that differ', async () => {
  await image('before/demo.raw', 'text');
  await image('after/demo.raw', 'other');
  const { code, out } = await compare();
  expect(out).toContain('bytes: demo 1.0 portable x86-64');
  expect(out).toMatch(/usr\/bin\/demo: file 6\d\d 4 \w+ → file 6\d\d 5 \w+/);
  expect(code).toBe(1);
});

test('an image without a counterpart fails', async () => {
  await image('before/demo.raw', 'text');
  await image('before/more.raw', 'text', { name: 'more' });
  await image('after/demo.raw', 'text');
  const { code, out } = await compare();
  expect(out).toContain('missing: more 1.0 portable x86-64');
  expect(code).toBe(1);
});

test('folders without images are an error', async () => {
  await image('before/demo.raw', 'text');
  await mkdir(join(dir, 'after'));
  const { code, out } = await compare();
  expect(out).toContain('after: no images');
  expect(code).toBe(1);
});
