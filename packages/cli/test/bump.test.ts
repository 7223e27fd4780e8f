import { join } from 'node:path';
import { expect, test } from 'vitest';
import { bumpText } from '../src/commands/bump.ts';
import { outdatedText } from '../src/commands/outdated.ts';
import { REPOSITORY } from '@flatcar/workspace/select';

const at = (path: string): string => join(REPOSITORY, 'extensions/yq', path);
const BUMP = {
  extension: 'yq',
  from: '4.54.2',
  version: '4.54.3',
  coupled: {},
  pinned: { extension: 'yq', version: '4.54.3', revision: 0, coupled: {}, lines: [], written: [] },
  dropped: ['4.54.2'],
  proofs: [],
  changes: ['yq 4.54.2 → 4.54.3'],
  written: [at('pins.json'), at('CHANGELOG.md'), at('README.md'), join(REPOSITORY, 'README.md')],
  removed: [at('go/example.org/yq@v4.54.2')],
  noDifference: 'not requested',
};

test('a bump lists what it wrote, what it deleted, and what comes next', () => {
  const lines = bumpText([BUMP], true).split('\n');
  expect(lines.filter((line) => line.startsWith('wrote '))).toEqual([
    'wrote extensions/yq/pins.json',
    'wrote extensions/yq/CHANGELOG.md',
    'wrote extensions/yq/README.md',
    'wrote README.md',
  ]);
  expect(lines).toContain('deleted extensions/yq/go/example.org/yq@v4.54.2');
  expect(lines.slice(lines.indexOf('Next:')).join('\n')).toContain('flatcar-ext build yq --arch x86-64,arm64');
  expect(bumpText([{ extension: 'yq', from: '4.54.2', version: '4.54.3', coupled: {} }], true)).toBe('yq 4.54.2 → 4.54.3'); // a dry run
});

test('an extension that could not be asked has its row beside the others', () => {
  const text = outdatedText({
    rows: [{ extension: 'b', of: 'version', current: '1.0', newest: '1.1', outdated: true, source: 'go example.org/b' }],
    errors: [
      { extension: 'a', of: 'version', current: '2.0', source: 'github example/a', error: 'cannot be reached', place: 'extension.ts:1' },
    ],
  });
  const [head = '', first = '', second = ''] = text.split('\n');
  expect(head).toContain('extension');
  expect(first.split(/\s{2,}/)).toEqual(['a', '2.0', '?', '-', 'not reached', 'github example/a']);
  expect(second).toContain('outdated');
});
