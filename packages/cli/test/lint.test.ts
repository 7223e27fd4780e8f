import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { cacheRoot } from '@flatcar/core/engine';
import { copyRepository, linkPackages } from '@flatcar/testing/checkout';
import { execa } from 'execa';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';

// `lint` on the sources of extensions, in a copy of this repository that has few of them.
const KEPT = new Set(['btop', 'crun', 'yq']);
let checkout: string;
let dir: string;

interface Found {
  readonly rule: string;
  readonly level: string;
  readonly what: string;
  readonly where?: string;
  readonly image?: string;
  readonly fix: string;
  readonly fixed?: boolean;
}

async function flatcarExt(...args: string[]): Promise<{ exitCode?: number; stdout: string; stderr: string }> {
  const plain = Object.fromEntries(
    Object.entries(process.env).filter(([key]) => !/^(?:GITHUB_|FLATCAR_EXT_(?!RELEASES$)|FORCE_COLOR|TURBO_)/.test(key)),
  );
  return execa(process.execPath, [join(checkout, 'packages/cli/src/main.ts'), ...args], {
    cwd: checkout,
    reject: false,
    extendEnv: false,
    // Nobody listens there: linting asks nobody.
    env: {
      ...plain,
      PATH: `${join(checkout, 'node_modules/.bin')}:${process.env['PATH'] ?? ''}`,
      FLATCAR_EXT_CACHE: cacheRoot(),
      FLATCAR_EXT_MIRROR: 'http://127.0.0.1:9',
      npm_config_registry: 'http://127.0.0.1:9',
    },
  });
}
const relative = (where: string | undefined): string | undefined => where?.replace(`${checkout}/`, '');
/** What `lint` finds, with places relative to the checkout. */
async function lint(...args: string[]): Promise<Found[]> {
  const { stdout, stderr } = await flatcarExt('lint', '--json', ...args);
  expect(stdout, stderr).toMatch(/^[[{]/);
  return (JSON.parse(stdout) as Found[]).map((one) => ({ ...one, where: relative(one.where), image: relative(one.image) }));
}
const put = async (path: string, text: string): Promise<void> => {
  await mkdir(dirname(join(checkout, path)), { recursive: true });
  await writeFile(join(checkout, path), text);
};
const definition = (name: string, more = ''): string =>
  `import { defineExtension } from '@flatcar/core/engine';\n\nexport default defineExtension({\n  name: '${name}',\n  summary: 'a demonstration',\n  versions: { kind: 'date', track: 'newest' },\n  components: () => [],\n${more}});\n`;
/** An extension of own files only, without anything that `new` writes besides. */
async function extension(name: string, files: Readonly<Record<string, string>>, more = ''): Promise<void> {
  await rm(join(checkout, 'extensions', name), { recursive: true, force: true });
  await put(`extensions/${name}/extension.ts`, definition(name, more));
  await put(
    `extensions/${name}/pins.json`,
    `${JSON.stringify({ '2026.11.27': { revision: 0, licenses: {}, bytes: {} } }, undefined, 2)}\n`,
  );
  await put(
    `extensions/${name}/test/extension.test.ts`,
    "import { testExtension } from '@flatcar/testing';\n\ntestExtension(import.meta.dirname, {});\n",
  );
  for (const [path, text] of Object.entries(files)) await put(`extensions/${name}/files/${path}`, text);
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lint-sources-'));
  checkout = join(dir, 'repository');
  await copyRepository(checkout);
  await linkPackages(checkout);
  for (const name of await readdir(join(checkout, 'extensions')))
    if (!KEPT.has(name)) await rm(join(checkout, 'extensions', name), { recursive: true });
  // The copy's own list of extensions.
  await flatcarExt('docs');
  const lock = join(checkout, 'package-lock.json');
  const json = JSON.parse(await readFile(lock, 'utf8')) as { packages: Record<string, unknown> };
  const gone = Object.keys(json.packages).filter((key) => key.startsWith('extensions/') && !KEPT.has(key.slice('extensions/'.length)));
  for (const key of gone) {
    delete json.packages[key];
    delete json.packages[`node_modules/${key.slice('extensions/'.length)}`];
  }
  await rm(lock);
  await writeFile(lock, `${JSON.stringify(json, undefined, 2)}\n`);
});
afterAll(() => rm(dir, { recursive: true, force: true }));
beforeEach(async () => {
  for (const name of ['demo', 'other']) await rm(join(checkout, 'extensions', name), { recursive: true, force: true });
});

const UNIT = 'usr/lib/systemd/system/demo.service';
const GOOD = { 'usr/bin/demo': '#!/bin/sh\n', [UNIT]: '[Service]\nExecStart=/usr/bin/demo\n' };
const makeGood = async (): Promise<void> => {
  await extension('demo', GOOD);
  await chmod(join(checkout, 'extensions/demo/files/usr/bin/demo'), 0o755);
};

test('--fix does what `new` does: package.json with its dependencies, the entry in package-lock.json, both READMEs', async () => {
  await makeGood();
  const before = await lint('demo');
  expect(before.map(({ rule, where }) => `${rule} ${where}`)).toEqual(
    expect.arrayContaining([
      'package package-lock.json:1',
      'readme extensions/demo/README.md:1',
      expect.stringMatching(/^readme README\.md:\d+$/),
    ]),
  );
  const fixed = await lint('demo', '--fix');
  expect(fixed.filter((one) => one.fixed !== true)).toEqual([]);
  expect(await lint('demo')).toEqual([]);
  expect(JSON.parse(await readFile(join(checkout, 'extensions/demo/package.json'), 'utf8'))).toMatchObject({
    name: 'demo',
    dependencies: { '@flatcar/core': '*' },
    devDependencies: { '@flatcar/cli': '*', '@flatcar/testing': '*' },
  });
  expect(await readFile(join(checkout, 'README.md'), 'utf8')).toContain('](extensions/demo/README.md)');
  expect(await flatcarExt('docs', '--check')).toMatchObject({ exitCode: 0 });
});

test('docs --check names what is not current and writes nothing', async () => {
  await makeGood();
  await lint('demo', '--fix');
  const readme = join(checkout, 'extensions/demo/README.md');
  const current = await readFile(readme, 'utf8');
  expect(await flatcarExt('docs', '--check')).toMatchObject({ exitCode: 0 });
  const stale = current.replace(/(<!-- generated by flatcar-ext docs[^]*?)demo/, '$1memo'); // what people write around it is theirs
  expect(stale).not.toBe(current);
  await writeFile(readme, stale);
  const { exitCode, stdout, stderr } = await flatcarExt('docs', '--check');
  expect(exitCode).toBe(1);
  expect(`${stdout}${stderr}`).toContain('extensions/demo/README.md');
  expect(await readFile(readme, 'utf8')).toBe(stale);
  await flatcarExt('docs');
  expect(await readFile(readme, 'utf8')).toBe(current);
  expect(await flatcarExt('docs', '--check')).toMatchObject({ exitCode: 0 });
});

test('a dependency that is imported and not declared is found', async () => {
  await makeGood();
  await lint('demo', '--fix');
  await put(
    'extensions/demo/extension.ts',
    `import '@flatcar/core';\nimport { runc } from '@flatcar/components';\nvoid runc;\n${definition('demo')}`,
  );
  const found = await lint('demo');
  expect(found).toContainEqual(
    expect.objectContaining({
      rule: 'package',
      where: expect.stringMatching(/^extensions\/demo\/package\.json:\d+$/) as string,
      what: expect.stringContaining('"@flatcar/components":"*"') as string,
    }),
  );
});

describe('files/ as they stand, without a build', () => {
  test.each([
    ['usr-sbin', 'usr/sbin/x', 'text', 'usr/sbin/x:1'],
    ['outside-usr', 'opt/x', 'text', 'opt/x:1'],
    ['exec-path', UNIT, '[Service]\nType=exec\nExecStart=/usr/bin/other\n', `${UNIT}:3`],
    ['unit-syntax', UNIT, '[Unit]\n[Servce]\n', `${UNIT}:2`],
    ['environment-file', UNIT, '[Service]\nEnvironmentFile=/etc/x\n', `${UNIT}:2`],
    ['script-interpreter', 'usr/bin/demo', '#!/usr/bin/perl\n', 'usr/bin/demo:1'],
    ['leftover', 'usr/share/demo/x.orig', 'text', 'usr/share/demo/x.orig:1'],
  ])('%s', async (rule, path, text, where) => {
    await makeGood();
    await put(`extensions/demo/files/${path}`, text);
    const { exitCode, stdout } = await flatcarExt('lint', 'demo');
    expect(stdout).toContain(`error [${rule}] extensions/demo/files/${where}: `);
    expect(stdout).toMatch(/^1 extension, 0 images: only definitions and files\/ were checked; \d+ found$/m);
    expect(exitCode).toBe(1);
  });

  test('programs that a build brings are taken to be there', async () => {
    await put('extensions/yq/files/usr/lib/systemd/system/yq.service', '[Service]\nExecStart=/usr/bin/yq\nExecStop=/usr/bin/yqq\n');
    const found = (await lint('yq')).filter(({ rule }) => rule === 'exec-path');
    await rm(join(checkout, 'extensions/yq/files'), { recursive: true });
    expect(found).toEqual([expect.objectContaining({ what: expect.stringContaining("'/usr/bin/yqq'") as string })]);
  });

  test('rules that must wait for a build are named', async () => {
    const { stdout } = await flatcarExt('lint', 'btop');
    expect(stdout).toMatch(/not before a build: .*exec-path/);
  });

  test('two extensions that contain different files under one path', async () => {
    await makeGood();
    await extension('other', { [UNIT]: '[Service]\nExecStart=/bin/true\n' });
    expect(await lint('demo', 'other')).toContainEqual(expect.objectContaining({ rule: 'collision', level: 'error' }));
  });

  test('what cannot be staged is an error with its place, and hides no other finding', async () => {
    await makeGood();
    await extension('other', { 'usr/share/other/x': 'text' }, "  start: ['other.service'],\n");
    const { exitCode, stdout, stderr } = await flatcarExt('lint', 'other', 'demo');
    expect(stderr).toMatch(/the image has no unit 'other\.service', which 'start' names/);
    expect(stdout).toContain('error [package] extensions/demo/package.json:1: ');
    expect(exitCode).toBe(1);
  });
});

test('an image of earlier sources is named, and not looked at', async () => {
  await makeGood();
  await lint('demo', '--fix');
  const built = await flatcarExt('build', 'demo', '--release', 'portable');
  expect(built.exitCode, built.stderr).toBe(0);
  expect((await flatcarExt('lint', 'demo')).stdout).toMatch(/^1 extension, 1 image; nothing found$/m);
  await put(`extensions/demo/files/${UNIT}`, '[Service]\nExecStart=/usr/bin/demo --new\n');
  const found = (await lint('demo')).filter(({ rule }) => rule === 'stale-image');
  expect(found).toEqual([
    expect.objectContaining({
      level: 'warning',
      fix: 'flatcar-ext build demo',
      image: expect.stringMatching(/^extensions\/demo\/dist\/portable\/.*\.raw$/) as string,
    }),
  ]);
  expect((await flatcarExt('lint', 'demo')).stdout).toContain('0 images: only definitions and files/ were checked');
});

describe('pins', () => {
  const edit = async (name: string, change: (bytes: Record<string, unknown>) => void): Promise<Found[]> => {
    const file = join(checkout, 'extensions', name, 'pins.json');
    const before = await readFile(file, 'utf8');
    const json = JSON.parse(before) as Record<string, { bytes: Record<string, unknown> }>;
    for (const { bytes } of Object.values(json)) change(bytes);
    await writeFile(file, `${JSON.stringify(json, undefined, 2)}\n`);
    try {
      return await lint(name);
    } finally {
      await writeFile(file, before);
    }
  };
  const drop =
    (pattern: RegExp) =>
    (bytes: Record<string, unknown>): void => {
      for (const key of Object.keys(bytes)) if (pattern.test(key)) delete bytes[key];
    };

  test('of a source tarball is missing', async () => {
    expect(await edit('crun', drop(/\.orig\.tar/))).toContainEqual(
      expect.objectContaining({
        rule: 'missing-pin',
        what: expect.stringMatching(/^crun \S+ has no pin of debian:pool\/.*\.orig\.tar/) as string,
        where: expect.stringMatching(/^extensions\/crun\/pins\.json:\d+$/) as string,
        fix: expect.stringMatching(/^flatcar-ext pin crun@/) as string,
      }),
    );
  });
  test('of a source tarball of another version is not used', async () => {
    const found = await edit(
      'crun',
      (bytes) =>
        (bytes['debian:pool/main/c/crun/crun_0.1.orig.tar.gz'] = {
          sha256: '0'.repeat(64),
          proof: 'nothing published: as first downloaded',
        }),
    );
    expect(found).toContainEqual(
      expect.objectContaining({ rule: 'unused-pin', what: expect.stringContaining('crun_0.1.orig.tar.gz') as string }),
    );
  });
  test('of a package is missing, for one architecture or for both', async () => {
    expect(await edit('btop', drop(/\/btop_.*_arm64\.deb$/))).toContainEqual(
      expect.objectContaining({ rule: 'missing-pin', what: expect.stringContaining('the package btop for arm64') as string }),
    );
    expect(await edit('btop', drop(/\.deb$/))).toContainEqual(
      expect.objectContaining({ rule: 'missing-pin', level: 'error', what: expect.stringContaining('the package btop') as string }),
    );
  });
});
