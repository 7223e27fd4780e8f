import { expect, test } from 'vitest';
import { parsePackages, type IndexedPackage } from '../src/debian/packages.ts';
import { resolveClosure } from '../src/debian/dependencies.ts';

test('an index is read, and what a package depends on is found', () => {
  const entry = (name: string, more = '', version = '1'): string =>
    `Package: ${name}\nVersion: ${version}\nFilename: pool/${name}.deb\nSize: 1\nSHA256: 00\n${more}`;
  const packages = parsePackages(
    [
      entry(
        'tool',
        'Source: tools (1.1)\nPre-Depends: libc6 (>= 2.34)\nDepends: missing | liba:any (= 1), default-b,\n libd\nDescription: a\n b\n',
      ),
      entry('liba', 'Depends: libc6, tool\n'),
      entry('b', 'Provides: default-b (= 1), other-b\n'),
      entry('libc6', '', '2.41'),
      entry('libd'),
      entry('unwanted'),
    ].join('\n'),
  );
  expect(packages[0]).toEqual({
    name: 'tool',
    version: '1',
    path: 'pool/tool.deb',
    sha256: '00',
    size: 1,
    source: 'tools',
    depends: [
      [{ name: 'libc6', version: { operator: '>=', than: '2.34' } }],
      [{ name: 'missing' }, { name: 'liba', qualifier: 'any', version: { operator: '=', than: '1' } }],
      [{ name: 'default-b' }],
      [{ name: 'libd' }],
    ],
    provides: [],
  });
  expect(resolveClosure(packages, ['tool']).map(({ name }) => name)).toEqual(['tool', 'libc6', 'liba', 'b', 'libd']);
  expect(() => resolveClosure(packages.slice(0, 1), ['tool'])).toThrow(
    "package 'tool' depends on libc6 (>= 2.34), which no package satisfies",
  );
});

/** Packages of an index: a name, with its version after `=`, and its fields. */
function indexed(about: Readonly<Record<string, string>>): IndexedPackage[] {
  return parsePackages(
    Object.entries(about)
      .map(([key, fields]) => {
        const [name = '', version = '1'] = key.split('=');
        return `Package: ${name}\nVersion: ${version}\nFilename: pool/${name}_amd64.deb\nSize: 1\nSHA256: 00\n${fields}\n`;
      })
      .join('\n'),
  );
}

const PROVIDERS = { 'libold-t64': 'Provides: libold (= 2)', 'libold-extra': 'Provides: libold', 'libold-more': 'Provides: libold' };

test.each<[string, Readonly<Record<string, string>>, string]>([
  ['a version is met by a versioned Provides only', { tool: 'Depends: libold (>= 1)', ...PROVIDERS }, 'libold-t64'],
  ['a versioned Provides must be in the range', { tool: 'Depends: libold (>= 1), x | libold (<< 2)', ...PROVIDERS, x: '' }, 'libold-t64 x'],
  ['without a version anything that stands for it does, first by name', { tool: 'Depends: libold', ...PROVIDERS }, 'libold-extra'],
  ['the package of that name goes first', { tool: 'Depends: libold', ...PROVIDERS, libold: '' }, 'libold'],
  ['unless its version is not the one', { tool: 'Depends: libold (>= 2)', ...PROVIDERS, 'libold=1.9': '' }, 'libold-t64'],
  ['an epoch counts first', { tool: 'Depends: a (>= 1:0.5) | b', 'a=9.9': '', b: '' }, 'b'],
  ['a tilde is before the release', { tool: 'Depends: a (>= 1.0) | b', 'a=1.0~rc1-1': '', b: '' }, 'b'],
  ['a revision of Debian counts', { tool: 'Depends: a (>> 1.0-1) | b', 'a=1.0-1+deb13u1': '', b: '' }, 'a'],
  ['strictly smaller is not equal', { tool: 'Depends: a (<< 1.0-1) | b', 'a=1.0-1': '', b: '' }, 'b'],
  ['any and native are any package of that name', { tool: 'Depends: a:any (= 1), b:native', a: '', b: '' }, 'a b'],
  ['another architecture is another package', { tool: 'Depends: a:i386 | b', a: '', b: '' }, 'b'],
  ['this architecture by name', { tool: 'Depends: a:amd64 | b', a: '', b: '' }, 'a'],
  ['an alternative that is there already is enough', { tool: 'Depends: c, a | b', a: '', b: '', c: 'Depends: b' }, 'c b'],
  [
    'of several providers the one that is there already',
    { tool: 'Depends: c, libold', ...PROVIDERS, c: 'Depends: libold-more' },
    'c libold-more',
  ],
  ['what is asked for itself does not depend on two of a kind', { tool: 'Depends: tool (= 1)' }, ''],
  ['a line that goes on', { tool: 'Depends: a,\n b (>= 1) |\n c', a: '', c: '', 'b=0.5': '' }, 'a c'],
])('%s', (_, about, closure) => {
  for (const packages of [indexed(about), indexed(about).toReversed()])
    expect(resolveClosure(packages, ['tool']).map(({ name }) => name)).toEqual(['tool', ...closure.split(' ').filter(Boolean)]);
});

test('what was asked for by name is the alternative, whatever comes first', () => {
  const packages = indexed({ tool: 'Depends: a | b', a: '', b: '' });
  expect(resolveClosure(packages, ['tool', 'b']).map(({ name }) => name)).toEqual(['tool', 'b']);
});

test.each([
  ['libold (>= 3)', { tool: 'Depends: libold (>= 3)', ...PROVIDERS }],
  ['a (= 2) or b', { tool: 'Depends: a (= 2) | b', a: '' }],
])('no package satisfies %s', (what, about) => {
  expect(() => resolveClosure(indexed(about), ['tool'])).toThrow(`package 'tool' depends on ${what}, which no package satisfies`);
});
