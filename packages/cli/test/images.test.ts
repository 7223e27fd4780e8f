// Commands that read images: of releases that left the catalogue, and with manifests that are none.
import { cp, mkdtemp, readFile, rm, writeFile, mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { sidecarPaths } from '@flatcar/core/engine';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const bin = resolve(import.meta.dirname, '../bin/flatcar-ext');
const releases = process.env['FLATCAR_EXT_RELEASES'] ?? '';
let dir: string;
/** A catalogue in which the releases of the images are no more. */
let later: string;
const images: string[] = [];

async function run(args: readonly string[], catalogue = later): Promise<{ code: number | undefined; out: string; all: string }> {
  const { exitCode, stdout, all } = await execa(bin, args, {
    all: true,
    reject: false,
    env: { FLATCAR_EXT_RELEASES: catalogue, NO_COLOR: '1' },
  });
  return { code: exitCode, out: stdout, all };
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'images-'));
  const built = await run(['build', 'hardening', '--release', '4593.2.5,4790.0.0', '--arch', 'x86-64', '--out', dir, '--json'], releases);
  expect(built.code, built.all).toBe(0);
  images.push(...(JSON.parse(built.out) as { file: string }[]).map(({ file }) => file));
  expect(images.map((file) => basename(dirname(file)))).toEqual(['4593.2.5', '4790.0.0']);
  later = join(dir, 'releases.json');
  const all = JSON.parse(await readFile(releases, 'utf8')) as { number: string }[];
  await writeFile(later, JSON.stringify(all.filter(({ number }) => !['4593.2.5', '4790.0.0'].includes(number))));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('images of releases that left the catalogue', () => {
  test('the catalogue has them no more', async () => {
    const { code, all } = await run(['build', 'hardening', '--release', '4593.2.5', '--out', dir]);
    expect(all).toContain('Flatcar 4593.2.5 is not in the catalogue');
    expect(code).not.toBe(0);
  });
  test.each([0, 1])('are inspected, linted and verified, in either format (%i)', async (index) => {
    const file = images[index] ?? '';
    const inspected = await run(['inspect', file]);
    expect(inspected.code, inspected.all).toBe(0);
    expect(inspected.out).toContain(`VERSION_ID=${basename(dirname(file))}`);
    for (const command of ['lint', 'verify']) {
      const { code, all } = await run([command, file]);
      expect(code, all).toBe(0);
    }
  });
  test('are compared', async () => {
    const { code, all } = await run(['diff', ...images]);
    expect(code, all).toBe(0);
    expect(all).toContain('extension-release.hardening');
  });
  test('are rebuilt', async () => {
    for (const file of images) {
      const { code, all } = await run(['verify', '--rebuild', file]);
      expect(code, all).toBe(0);
      expect(all).toContain('rebuilt from nothing: the same bytes');
    }
  });
});

describe('a manifest that is none', () => {
  /** A copy of an image whose manifest has another text. */
  async function spoilt(change: (text: string) => string): Promise<string> {
    const folder = join(dir, 'spoilt');
    await rm(folder, { recursive: true, force: true });
    await cp(dirname(images[0] ?? ''), folder, { recursive: true });
    const file = join(folder, basename(images[0] ?? ''));
    const { manifest } = sidecarPaths(file);
    await writeFile(manifest, change(await readFile(manifest, 'utf8')));
    return file;
  }
  type Fields = Record<string, unknown>;
  const changed = (change: (fields: Fields) => Fields) => (text: string) => JSON.stringify(change(JSON.parse(text) as Fields));
  test.each<[string, (text: string) => string, string]>([
    ['of a download that was cut off', (text) => text.slice(0, 40), 'manifest is not JSON'],
    ['empty', () => '', 'manifest is not JSON'],
    ['null', () => 'null', 'invalid manifest: Invalid type: Expected Object but received null'],
    ['a list', () => '[]', 'invalid manifest: schema: '],
    ['without a target', changed((one) => ({ ...one, target: undefined })), 'invalid manifest: target: '],
    [
      'with the target of no release',
      changed((one) => ({ ...one, target: '../4593' })),
      "invalid manifest: target: must be 'portable' or a Flatcar release",
    ],
    ['with an unknown field', changed((one) => ({ ...one, more: 1 })), 'invalid manifest: more: '],
    [
      'with a component of another shape',
      changed((one) => ({ ...one, components: [{ name: 1 }] })),
      'invalid manifest: components.0.name: ',
    ],
  ])('%s is told with its path and field', async (_, spoil, message) => {
    const file = await spoilt(spoil);
    const { code, all } = await run(['inspect', file]);
    expect(all).toContain(message);
    expect(all).toContain(sidecarPaths(file).manifest);
    expect(all).not.toMatch(/please report|\n {4}at /);
    expect(code).toBe(1);
  });
  test('is told by every command that reads images', async () => {
    const file = await spoilt(() => '{}');
    for (const args of [
      ['lint', file],
      ['verify', file],
      ['diff', images[1] ?? '', file],
    ]) {
      const { code, all } = await run(args);
      expect(all, args.join(' ')).toContain('invalid manifest: schema: ');
      expect(code).toBe(1);
    }
  });
  test('missing, or a folder, is told', async () => {
    const folder = join(dir, 'bare');
    await mkdir(folder);
    const file = join(folder, basename(images[0] ?? ''));
    await cp(images[0] ?? '', file);
    expect((await run(['inspect', file])).all).toContain('the image has no manifest beside it');
    await mkdir(sidecarPaths(file).manifest);
    expect((await run(['inspect', file])).all).toContain('invalid manifest: not a plain file');
  });
});
