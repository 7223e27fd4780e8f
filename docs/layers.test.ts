import { expect, test } from 'vitest';
import { circles, layerErrors } from '../scripts/lint/layers.ts';

const LAYERS = [['util'], ['model', 'http'], ['build']];
const imports = (files: Record<string, readonly string[]>): ReadonlyMap<string, readonly string[]> => new Map(Object.entries(files));
const errorsOf = (files: Record<string, readonly string[]>): string[] => layerErrors('demo', LAYERS, imports(files));

test('a folder may import lower layers and itself, an entry point everything', () => {
  expect(
    errorsOf({
      'index.ts': ['build/a.ts', 'util/a.ts'],
      'build/a.ts': ['build/b.ts', 'model/a.ts', 'util/a.ts'],
      'model/a.ts': ['util/a.ts'],
    }),
  ).toEqual([]);
});

test.each([
  ['upwards', { 'util/a.ts': ['model/a.ts'] }, "util/a.ts: 'util' must not import model/a.ts: 'model' is not in a lower layer"],
  ['sideways', { 'http/a.ts': ['model/a.ts'] }, "http/a.ts: 'http' must not import model/a.ts: 'model' is not in a lower layer"],
  ['of an entry point', { 'build/a.ts': ['index.ts'] }, 'build/a.ts: imports the entry point index.ts'],
  ['from a new folder', { 'other/a.ts': ['util/a.ts'] }, "other/a.ts: the folder 'other' is not in a layer"],
])('an import %s is an error', (_, files, error) => {
  expect(errorsOf(files)).toEqual([`packages/demo/src/${error}`]);
});

test('files that import each other are named with the way', () => {
  const files = { 'util/a.ts': ['util/b.ts'], 'util/b.ts': ['util/c.ts'], 'util/c.ts': ['util/a.ts'], 'util/d.ts': ['util/a.ts'] };
  expect(circles('demo', imports(files))).toEqual(['packages/demo/src/util/a.ts: imports itself by util/b.ts → util/c.ts → util/a.ts']);
  expect(circles('demo', imports({ ...files, 'util/c.ts': [] }))).toEqual([]);
});
