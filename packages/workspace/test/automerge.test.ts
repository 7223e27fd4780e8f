import { describe, expect, test } from 'vitest';
import { automergeObjections, isPatch } from '@flatcar/workspace/ci/automerge';
import type { Bumped } from '@flatcar/workspace/ci/bump-output';
import { pullBody } from '@flatcar/workspace/ci/pull-body';

const RELEASE = 'sha256 list, signed by PGP 0xABABABABABABABABABABABABABABABABABABABAB';
const good: Bumped = {
  extension: 'tool',
  from: '1.2.3',
  version: '1.2.4',
  pinned: { revision: 0, lines: [{ component: 'tool', locator: 'https://example.org/tool', change: 'new', proof: RELEASE }] },
  proofs: [{ component: 'tool', origin: 'upstream', before: [RELEASE], after: [RELEASE] }],
  changes: ['tool 1.2.3 → 1.2.4'],
  dropped: ['1.2.3'],
  difference: {
    versions: [{ component: 'tool', before: '1.2.3', after: '1.2.4' }],
    files: [{ what: 'changed', path: 'usr/bin/tool' }],
    requirements: [],
  },
};
const paths = [
  'README.md',
  'extensions/tool/CHANGELOG.md',
  'extensions/tool/README.md',
  'extensions/tool/go/example.org/tool/go.mod',
  'extensions/tool/pins.json',
];
const difference = good.difference!;
const proofs = (before: readonly string[], after: readonly string[]): Bumped['proofs'] => [
  { component: 'tool', origin: 'upstream', before: [...before], after: [...after] },
];

test('a patch release with the same proofs, files, units and host requirements is merged without a person', () => {
  expect(automergeObjections('tool', [good], paths)).toEqual([]);
});

describe('a person decides', () => {
  const cases: [why: string, change: Partial<Bumped>, objection: string][] = [
    ['a minor release', { version: '1.3.0' }, '1.2.3 → 1.3.0 is not a patch release'],
    ['an older version', { version: '1.2.2' }, 'is not a patch release'],
    ['a version of another form', { from: '2026.1', version: '2026.2' }, 'is not a patch release'],
    ['a pre-release', { version: '1.2.4-rc1' }, 'is not a patch release'],
    ['a new branch', { from: undefined }, 'is the first version of a new branch'],
    ['a revision', { version: '1.2.3' }, 'other components under the same version'],
    ['another version that goes', { dropped: ['1.2.3', '1.1.9'] }, '1.1.9 would no longer be pinned'],
    [
      'a minor release of a component',
      { difference: { ...difference, versions: [{ component: 'runc', before: '1.4.0', after: '1.5.0' }] } },
      'runc 1.4.0 → 1.5.0',
    ],
    [
      'a component that is new',
      { difference: { ...difference, versions: [{ component: 'runc', before: '', after: '1.5.0' }] } },
      'runc (none) → 1.5.0',
    ],
    [
      'a component that is gone',
      { difference: { ...difference, versions: [{ component: 'runc', before: '1.5.0', after: '' }] } },
      'runc 1.5.0 → (none)',
    ],
    ['a signature that is gone', { proofs: proofs([RELEASE], ['sha256 list']) }, "now only by 'sha256 list'"],
    ['hashes that are gone', { proofs: proofs(['sha256 file'], ['nothing published: as first downloaded']) }, 'now only by'],
    ['one file of two that is weaker', { proofs: proofs([RELEASE], [RELEASE, 'sha256 file']) }, 'now only by'],
    ['a proof in free text', { proofs: proofs(['third-party pin'], ['trust me']) }, "now only by 'trust me'"],
    ['a proof that only claims', { proofs: proofs(['sha256 file'], ['not signed by anybody']) }, 'now only by'],
    ['an origin that is new', { proofs: proofs([], [RELEASE]) }, 'had no proof before'],
    [
      'a pin that was not checked',
      { pinned: { ...good.pinned, lines: [{ ...good.pinned.lines[0]!, change: 'kept' }] } },
      'were not verified again',
    ],
    [
      'a file that is added',
      { difference: { ...difference, files: [{ what: 'added', path: 'usr/bin/other' }] } },
      'files are added: usr/bin/other',
    ],
    ['a file that is removed', { difference: { ...difference, files: [{ what: 'removed', path: 'usr/bin/tool' }] } }, 'files are removed'],
    [
      'other permissions',
      {
        difference: {
          ...difference,
          files: [{ what: 'changed', path: 'usr/bin/tool', modes: { before: 'file 755', after: 'file 4755' } }],
        },
      },
      'permissions',
    ],
    [
      'another unit',
      { difference: { ...difference, files: [{ what: 'changed', path: 'usr/lib/systemd/system/tool.service' }] } },
      'units or settings of systemd',
    ],
    [
      'other users',
      { difference: { ...difference, files: [{ what: 'changed', path: 'usr/lib/sysusers.d/tool.conf' }] } },
      'units or settings of systemd',
    ],
    [
      'another glibc',
      { difference: { ...difference, requirements: [{ what: 'glibc', before: '2.34', after: '2.39' }] } },
      "glibc changes from '2.34' to '2.39'",
    ],
    [
      'a library',
      { difference: { ...difference, requirements: [{ what: 'libraries', before: '', after: 'libz.so.1' }] } },
      "from 'none' to 'libz.so.1'",
    ],
    ['images that could not be compared', { difference: undefined, noDifference: '1.2.4 could not be built' }, '1.2.4 could not be built'],
  ];
  test.each(cases)('about %s', (_, change, objection) => {
    const objections = automergeObjections('tool', [{ ...good, ...change }], paths);
    expect(objections.join('\n')).toContain(objection);
  });

  test.each([
    'packages/components/runc/pins.json',
    'extensions/other/pins.json',
    'extensions/tool/extension.ts',
    'extensions/tool/files/usr/x',
    'extensions/tool-x/pins.json',
  ])('about a change of %s', (path) => expect(automergeObjections('tool', [good], [...paths, path]).join()).toContain(path));

  test('when one of two branches is no patch release, or nothing is known', () => {
    expect(automergeObjections('tool', [good, { ...good, version: '2.0.0' }], paths)).toHaveLength(1);
    expect(automergeObjections('releases', [], ['packages/core/src/model/data/releases.json'])).toHaveLength(2);
  });
});

test.each([
  ['1.2.3', '1.2.4', true],
  ['1.2.9', '1.2.10', true],
  ['1.2.3.4', '1.2.3.5', true],
  ['1.2', '1.3', false],
  ['1.2.3', '1.2.3', false],
  ['1.2.3', '1.2.3.1', false],
  ['1.2.3', '2.2.4', false],
  ['', '1.2.3', false],
])('%s → %s', (before, after, patch) => expect(isPatch(before, after)).toBe(patch));

describe('the text of a pull request', () => {
  test('has the reasons', () => {
    expect(pullBody('flatcar-ext bump tool', [good], undefined)).not.toContain('automatically');
    expect(pullBody('flatcar-ext bump tool', [good], [])).toContain('**Merged automatically**');
    expect(pullBody('flatcar-ext bump tool', [good], ['files are added: usr/x'])).toContain('- `files are added: usr/x`');
  });
  test('has what was bumped and by what it was checked, none of which is Markdown', () => {
    const text = pullBody('x', [{ ...good, changes: ['**@octocat** | <b>'], proofs: proofs(['a | `b`'], ['[x](https://evil)']) }], []);
    expect(text).toContain('### `tool` `1.2.3` → `1.2.4`');
    expect(text).toContain('- `**@octocat** | <b>`');
    expect(text).toContain('| `tool` | `upstream` | `[x](https://evil)` |');
  });
});
