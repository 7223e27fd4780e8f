import { resolve } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';

const repository = resolve(import.meta.dirname, '../../..');
// Those that read the catalogue or are given releases; the whole unit project passes too, in minutes: scripts/test/catalogue-change.ts.
const files = [
  'core/test/releases',
  'core/test/lint',
  'core/test/pipeline',
  'publish/test/plan',
  'publish/test/retire',
  'publish/test/node-config',
  'publish/test/publish',
  'publish/test/withdraw',
  'testing/test/flatcar',
  'cli/test/cli',
  'cli/test/ci-release',
].map((name) => `packages/${name}.test.ts`);

// The pull request of `flatcar-ext releases update`, on that day and when every release of today has left.
test('a catalogue of other releases turns no test red', { tags: ['full'], timeout: 3_600_000 }, async () => {
  const { exitCode, all } = await execa('node', [resolve(repository, 'scripts/test/catalogue-change.ts'), '--project', 'unit', ...files], {
    all: true,
    reject: false,
  });
  expect(exitCode, all.slice(-6000)).toBe(0);
});
