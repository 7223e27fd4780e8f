import { appendFile, chmod, copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Omission } from '../src/inspect/omission.ts';
import { relocationOmissions } from '../src/origins/debian/compiled-in.ts';
import { completeRelocation, wrappedPrograms, type CompletedOrigin } from '../src/origins/debian/complete-relocation.ts';
import { debian } from '../src/definition/builders.ts';
import type { DebianOrigin } from '../src/definition/types.ts';
import { lintTree } from '../src/lint/lint.ts';
import type { PackageFiles } from '../src/debian/package-index.ts';
import { chooseFiles } from '../src/origins/debian/choose.ts';
import { readTree } from '../src/image/tree.ts';
import { unpackTool } from './tool-packages.ts';

const arch = 'x86-64';
const LIBRARIES = 'usr/lib/x86_64-linux-gnu';
let temp = '';
let base: PackageFiles[] = [];
let xz = '';
beforeAll(async () => {
  temp = await mkdtemp(join(tmpdir(), 'compiled-in-'));
  base = await unpackTool(temp, 'xz', arch);
  xz = join(base.find(({ name }) => name === 'xz-utils')?.dir ?? '', 'usr/bin/xz');
});
afterAll(() => rm(temp, { recursive: true, force: true }));

let made = 0;
/** A package of a source, with texts as its files; of a list, a real program that has these strings compiled in; `->` makes a link. */
async function pack(name: string, files: Readonly<Record<string, string | readonly string[]>>, source = name): Promise<PackageFiles> {
  made += 1;
  const dir = join(temp, `${made}-${name}`);
  for (const [path, content] of Object.entries(files)) {
    const file = join(dir, path);
    await mkdir(dirname(file), { recursive: true });
    if (typeof content !== 'string') {
      await copyFile(xz, file);
      await appendFile(file, `\0${content.join('\0')}\0`);
    } else if (content.startsWith('-> ')) await symlink(content.slice(3), file);
    else await writeFile(file, content);
  }
  return { name, dir, source };
}

type Files = Parameters<typeof debian>[1];

async function omitted(packages: readonly PackageFiles[], files: Partial<Files> = {}): Promise<readonly Omission[]> {
  const origin = debian(['demo'], { programs: ['demo'], ...files });
  const all = [...packages, ...base];
  const chosen = await chooseFiles(all, origin, 'demo', arch);
  return relocationOmissions({ packages: all, origin, chosen, name: 'demo', arch });
}

describe('what a program names and the image lacks', () => {
  test.each<[string, string, string, string]>([
    // string in the program, file of a package, path that is told, line
    ['/usr/share/demo/themes', 'usr/share/demo/themes/dark', 'usr/share/demo/themes', "data: ['usr/share/demo/themes/**']"],
    ['/usr/share/demo/%s.conf', 'usr/share/demo/a.conf', 'usr/share/demo', "data: ['usr/share/demo/**']"],
    ['open /usr/libexec/demo-helper.', 'usr/libexec/demo-helper', 'usr/libexec/demo-helper', "data: ['usr/libexec/demo-helper']"],
    [
      `/${LIBRARIES}/demo/plugins`,
      `${LIBRARIES}/demo/plugins/a.so`,
      `${LIBRARIES}/demo/plugins`,
      "plugins: ['usr/lib/{triplet}/demo/plugins/**']",
    ],
    [
      `/${LIBRARIES}//demo/list.txt`,
      `${LIBRARIES}/demo/list.txt`,
      `${LIBRARIES}/demo/list.txt`,
      "data: ['usr/lib/{triplet}/demo/list.txt']",
    ],
    ['/etc/demo:/usr/share/demo:/opt', 'usr/share/demo/x', 'usr/share/demo', "data: ['usr/share/demo/**']"],
    ['/lib/demo/x', 'lib/demo/x', 'usr/lib/demo/x', "data: ['usr/lib/demo/x']"],
    ['/usr/sbin/democtl', 'usr/sbin/democtl', 'usr/bin/democtl', "programs: ['democtl']"],
    ['libdemo-extra.so.3', `${LIBRARIES}/libdemo-extra.so.3`, 'libdemo-extra.so.3', "plugins: ['libdemo-extra.so.3']"],
  ])('%s', async (named, file, path, line) => {
    const program = await pack('demo', { 'usr/bin/demo': [named] });
    const other = await pack('demo-data', { [file]: 'x' }, 'demo');
    expect(await omitted([program, other])).toMatchObject([{ path, line, package: 'demo-data', wantedBy: 'usr/bin/demo' }]);
    // Whatever the line says settles it.
    const [key = '', value = ''] = line.split(/: \['|'\]/);
    const given = key === 'programs' ? ['demo', value] : [value];
    if (key === 'plugins' && !value.includes('/')) return; // a text is not a library
    expect(await omitted([program, other], key === 'programs' ? { programs: given } : { relocate: { [key]: given } })).toEqual([]);
  });

  test('is found in scripts, too, but not in their first line, and not in data', async () => {
    const files = { 'usr/share/demo/x': 'x', 'usr/share/demo2/y': 'y', 'usr/share/demo3/z': 'z' };
    const program = await pack('demo', {
      ...files,
      'usr/bin/demo': '#!/usr/share/demo2/y\ncat /usr/share/demo/x\n',
      'usr/share/doc/demo/README': 'see /usr/share/demo3/z\n',
    });
    const found = await omitted([program], { relocate: { data: ['usr/share/doc/demo/README'] } });
    expect(found.map(({ path }) => path)).toEqual(['usr/share/demo/x']);
  });

  test('a folder includes everything below it, and a chosen file of it excludes the others', async () => {
    const program = await pack('demo', {
      'usr/bin/demo': ['/usr/share/demo', '/usr/share/demo/a', '/usr/share/demo/b'],
      'usr/share/demo/a': 'a',
      'usr/share/demo/b': 'b',
    });
    expect((await omitted([program])).map(({ path }) => path)).toEqual(['usr/share/demo']);
    expect((await omitted([program], { relocate: { data: ['usr/share/demo/a'] } })).map(({ path }) => path)).toEqual(['usr/share/demo/b']);
  });

  test('what a ! takes out is left out on purpose', async () => {
    const program = await pack('demo', { 'usr/bin/demo': ['/usr/share/demo/a'], 'usr/share/demo/a': 'a', 'usr/share/demo/b': 'b' });
    expect(await omitted([program], { relocate: { data: ['usr/share/demo/**', '!usr/share/demo/a'] } })).toEqual([]);
  });

  test('what the C library does without is no omission: every static program names it', async () => {
    const program = await pack('demo', { 'usr/bin/demo': ['libidn2.so.0', 'libidn-other.so.1'] });
    const libraries = await pack('libidn2-0', { [`${LIBRARIES}/libidn2.so.0`]: 'x', [`${LIBRARIES}/libidn-other.so.1`]: 'x' });
    expect((await omitted([program, libraries])).map(({ path }) => path)).toEqual(['libidn-other.so.1']);
  });

  test('a link to a folder is that folder, as Perl has its library', async () => {
    const program = await pack('demo', {
      'usr/bin/demo': ['/usr/share/perl/5.40'],
      'usr/share/perl/5.40': '-> 5.40.1',
      'usr/share/perl/5.40.1/strict.pm': '1;',
    });
    expect(await omitted([program])).toMatchObject([{ path: 'usr/share/perl/5.40.1', line: "data: ['usr/share/perl/5.40.1/**']" }]);
  });

  test('Python finds its library by itself, as a program and as a part of another', async () => {
    const library = await pack('libpython3.13-minimal', { 'usr/lib/python3.13/encodings/__init__.py': '' });
    const embedded = await pack('libpython3.13', { [`${LIBRARIES}/libpython3.13.so.1.0`]: ['nothing'] });
    const program = await pack('demo', { 'usr/bin/demo': ['nothing'], 'usr/bin/python3.13': ['nothing'] });
    const line = "data: ['usr/lib/python3.13/**']";
    expect(await omitted([program, library], { programs: ['demo', 'python3.13'] })).toMatchObject([{ path: 'usr/lib/python3.13', line }]);
    expect(await omitted([program, library, embedded], { relocate: { plugins: ['libpython3.13.so.1.0'] } })).toMatchObject([{ line }]);
    expect(
      await omitted([program, library, embedded], { relocate: { plugins: ['libpython3.13.so.1.0'], siblings: ['usr/lib/python3.13/**'] } }),
    ).toEqual([]);
  });
});

test('files that no program needs are not reported', async () => {
  const program = await pack('demo', {
    'usr/bin/demo': [
      '/usr/lib',
      `/${LIBRARIES}`,
      '/usr/share/locale',
      '/usr/share/man',
      '/usr/lib/systemd/system',
      '/usr/share/zoneinfo', // everywhere
      '/usr/share/common',
      '/usr/bin/jq', // another package's; the host's
      'liblzma.so.5',
      'libm.so.6',
      '/usr/share/none', // linked; a part of the C library; nobody's
    ],
    'usr/share/locale/de/demo.mo': '',
    'usr/share/man/demo.1': '',
    'usr/lib/systemd/system/demo.service': '',
    'usr/share/zoneinfo/UTC': '',
  });
  const others = await pack('others', { 'usr/share/common/x': '', 'usr/bin/jq': '' });
  expect(await omitted([program, others])).toEqual([]);
});

test('the same omissions come in the same order, whatever is read first', async () => {
  const names = Array.from({ length: 20 }, (_, index) => `/usr/share/demo/${index}`);
  const program = await pack('demo', {
    'usr/bin/demo': names,
    'usr/bin/demo-again': names,
    ...Object.fromEntries(names.map((name) => [name.slice(1), ''])),
  });
  const found = await Promise.all(Array.from({ length: 5 }, () => omitted([program], { programs: ['demo', 'demo-again'] })));
  for (const one of found) expect(one).toEqual(found[0]);
  expect(new Set(found[0]?.map(({ wantedBy }) => wantedBy))).toEqual(new Set(['usr/bin/demo']));
});

describe('an origin completed for its programs', () => {
  const complete = async (
    packages: readonly PackageFiles[],
    more: { limit?: number; also?: readonly string[]; origin?: DebianOrigin } = {},
  ): Promise<CompletedOrigin> => {
    const all = [...packages, ...base];
    const origin = debian(['demo'], { programs: ['demo'] });
    const made = await completeRelocation({ packages: all, origin, name: 'demo', version: '1.2.3', arch, limit: 1 << 20, ...more });
    const chosen = await chooseFiles(all, made.origin, 'demo', arch);
    const omissions = await relocationOmissions({ packages: all, origin: made.origin, chosen, name: 'demo', arch });
    // What is left is what lint reports, and nothing else: both are one analysis.
    const reported = made.left.filter(({ isReported }) => isReported);
    expect(omissions.map(({ path }) => path)).toEqual(reported.map(({ path }) => path).toSorted());
    return made;
  };

  test('has what they look for, and what that looks for', async () => {
    const program = await pack('demo', {
      'usr/bin/demo': [`/${LIBRARIES}/demo/plugins`],
      [`${LIBRARIES}/demo/plugins/a.so`]: ['/usr/share/demo/words', '/usr/bin/demo-helper'],
      'usr/share/demo/words': 'x',
      'usr/bin/demo-helper': '#!/bin/sh\ncat /usr/libexec/demo/list\n',
      'usr/libexec/demo/list': 'x',
    });
    const { origin, added, left } = await complete([program]);
    expect(origin).toMatchObject({
      programs: ['demo', 'demo-helper'],
      relocate: { plugins: ['usr/lib/{triplet}/demo/plugins/**'], data: ['usr/share/demo/words', 'usr/libexec/demo/list'] },
    });
    expect(added.find(({ line }) => line.startsWith('plugins'))).toMatchObject({ files: 1, wantedBy: 'usr/bin/demo' });
    expect(left).toEqual([]);
  });

  test('has folders of any version where one is named for the component’s', async () => {
    const program = await pack('demo', {
      'usr/bin/demo': ['/usr/share/demo/1.2'],
      'usr/share/demo/1.2/a': 'x',
      'usr/share/demo/1.2/gone': '-> ../absent',
    });
    const { origin } = await complete([program]);
    expect(origin.relocate?.data).toEqual(['usr/share/demo/[0-9]*/**', '!usr/share/demo/[0-9]*/gone']);
  });

  test('has no script without its interpreter, no dangling link, and no folder that is too large', async () => {
    const program = await pack('demo', {
      'usr/bin/demo': ['/usr/share/demo', '/usr/share/demo-large', '/usr/libexec/demo-perl'],
      'usr/share/demo/own': '#!/bin/demo\n',
      'usr/share/demo/perl': '#!/usr/bin/perl -w\n',
      'usr/share/demo/env': '#!/usr/bin/env python3\n',
      'usr/share/demo/link': '-> /etc/demo/absent',
      'usr/share/demo-large/x': 'x'.repeat(2 << 20),
      'usr/libexec/demo-perl': '#!/usr/bin/perl\n',
    });
    for (const path of ['usr/share/demo/own', 'usr/share/demo/perl', 'usr/share/demo/env', 'usr/libexec/demo-perl'])
      await chmod(join(program.dir, path), 0o755);
    const { origin, left } = await complete([program]);
    expect(origin.relocate?.data).toEqual(['usr/share/demo/**', '!usr/share/demo/env', '!usr/share/demo/link', '!usr/share/demo/perl']);
    expect(left.filter(({ isReported }) => isReported)).toEqual([
      { path: 'usr/libexec/demo-perl', why: expect.stringContaining("'/usr/bin/perl'") as string, isReported: true },
      {
        path: 'usr/share/demo-large',
        why: '2.0 MiB, more than most users need',
        line: "data: ['usr/share/demo-large/**']",
        isReported: true,
      },
    ]);
  });

  test('has the standard library of an interpreter, however large', async () => {
    const program = await pack('demo', { 'usr/bin/demo': '-> python3.13', 'usr/bin/python3.13': ['nothing'] });
    const library = await pack('libpython3.13', { 'usr/lib/python3.13/encodings/__init__.py': '', 'usr/lib/python3.13/large.py': 'xxx' });
    const { origin } = await complete([program, library], { limit: 2 });
    expect(origin.relocate?.data).toEqual(['usr/lib/python3.13/**']);
  });

  test('has the library of an embedded Perl only if Perl itself is shipped: a library that embeds Perl starts without it', async () => {
    const library = await pack('libperl', {
      [`${LIBRARIES}/libperl.so.5.40`]: ['/usr/share/perl/5.40.1'],
      'usr/share/perl/5.40.1/strict.pm': '1;',
    });
    const program = await pack('demo', { 'usr/bin/demo': ['libperl.so.5.40'], 'usr/bin/perl': ['nothing'] });
    const plugins = ['libperl.so.5.40'];
    const without = await complete([program, library], { origin: debian(['demo'], { programs: ['demo'], relocate: { plugins } }) });
    expect(without.origin.relocate?.data).toEqual([]);
    expect(without.left).toEqual([
      {
        path: 'usr/share/perl/5.40.1',
        why: 'the image has no program perl, and a library that embeds Perl starts without it',
        line: "data: ['usr/share/perl/5.40.1/**']",
        isReported: true,
      },
    ]);
    const withPerl = await complete([program, library], {
      origin: debian(['demo'], { programs: ['demo', 'perl'], relocate: { plugins } }),
    });
    expect(withPerl.origin.relocate?.data).toEqual(['usr/share/perl/5.40.1/**']);
  });

  test('has what else is wanted, and what that looks for', async () => {
    const program = await pack('demo', {
      'usr/bin/demo': ['/usr/share/demo'],
      'usr/share/demo/stop': '#!/bin/sh\n',
      'usr/libexec/demo-start': '#!/bin/sh\nexec demo /usr/share/others/list\n',
      'usr/share/others/list': 'x',
    });
    const { origin } = await complete([program], { also: ['usr/share/demo/stop', 'usr/libexec/demo-start'] });
    expect(origin.relocate?.data).toEqual(['usr/share/demo/**', 'usr/libexec/demo-start', 'usr/share/others/list']);
  });
});

test('a program that a script wraps which nothing can run is found where it is', async () => {
  const wrapper = await pack('demo-common', {
    'usr/bin/demo': '-> ../share/demo-common/wrapper',
    'usr/bin/shell': '-> ../share/demo-common/shell',
    'usr/bin/twice': '-> ../share/demo-common/wrapper',
    'usr/share/demo-common/wrapper': '#!/usr/bin/perl -w\n',
    'usr/share/demo-common/shell': '#!/bin/sh\n',
  });
  for (const name of ['wrapper', 'shell']) await chmod(join(wrapper.dir, 'usr/share/demo-common', name), 0o755);
  const real = await pack('demo-17', {
    'usr/lib/demo/17/bin/demo': ['nothing'],
    'usr/lib/demo/17/bin/shell': ['nothing'],
    'usr/lib/demo/17/bin/only': ['nothing'],
    'usr/lib/demo/17/bin/twice': ['nothing'],
    'usr/lib/demo/16/bin/twice': ['nothing'],
    'usr/share/demo/bin/demo': 'a text',
  });
  const found = await wrappedPrograms([wrapper, real], ['demo', 'shell', 'only', 'twice', 'absent']);
  expect([...found].map(([name, { path, package: owner }]) => [name, path, owner])).toEqual([
    ['demo', 'usr/lib/demo/17/bin/demo', 'demo-17'],
    ['only', 'usr/lib/demo/17/bin/only', 'demo-17'],
  ]);
  // Such a path is a program of the image by its name.
  const chosen = await chooseFiles([real, ...base], debian(['demo'], { programs: ['usr/lib/demo/17/bin/demo'] }), 'demo', arch);
  expect(chosen.find(({ to }) => to === 'usr/bin/demo')?.from).toBe(join(real.dir, 'usr/lib/demo/17/bin/demo'));
});

describe('the rule compiled-in-path', () => {
  const omission: Omission = {
    path: 'usr/share/demo/themes',
    at: 'usr/share/demo/themes',
    wantedBy: 'usr/bin/demo',
    package: 'demo-data',
    line: "data: ['usr/share/demo/themes/**']",
  };
  async function lint(files: readonly string[], waive: Readonly<Record<string, string>> = {}): Promise<string[]> {
    const dir = await mkdtemp(join(temp, 'tree-'));
    for (const path of files) {
      await mkdir(dirname(join(dir, path)), { recursive: true });
      await writeFile(join(dir, path), '');
    }
    const definition = { requiredPaths: [], replaces: [], waive };
    const found = await lintTree(await readTree(dir, new Map()), { name: 'demo', kind: 'sysext', arch, definition, omissions: [omission] });
    return found.flatMap(({ rule, what, path }) =>
      ['compiled-in-path', 'unused-waiver'].includes(rule) ? [`${path ?? rule}: ${what}`] : [],
    );
  }
  test('names the path, the file that names it, the package that has it and the line that adds it', async () => {
    expect(await lint(['usr/bin/demo'])).toEqual([
      "usr/bin/demo: names '/usr/share/demo/themes', which is in the package demo-data and not in the image: data: ['usr/share/demo/themes/**'] adds it",
    ]);
  });
  test("is content with the extension's own file in that place", async () => {
    expect(await lint(['usr/bin/demo', 'usr/share/demo/themes/own'])).toEqual([]);
  });
  test.each([
    'compiled-in-path',
    'compiled-in-path:/usr/share/demo/themes',
    'compiled-in-path:usr/share/demo/**',
    'compiled-in-path:usr/bin/demo',
  ])('is waived by %s', async (key) => {
    expect(await lint(['usr/bin/demo'], { [key]: 'nobody likes them' })).toEqual([]);
  });
});
