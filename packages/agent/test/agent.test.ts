// The tests of the agent, which is a Go module: by the pinned compiler. The store keeps that they passed, so that the same sources are not tested again.
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestOf, hashFile, openGo, openStore, openTools, walk, type GoCommand } from '@flatcar/core/engine';
import { beforeAll, describe, expect, test } from 'vitest';

const cwd = join(import.meta.dirname, '..');
const store = openStore();

/** What the tests depend on: every file of the module, and the compiler. */
async function sourcesKey(go: GoCommand): Promise<string> {
  const files = (await walk(cwd)).filter(({ type, path }) => type === 'file' && !path.startsWith('node_modules/'));
  const digests = await Promise.all(files.map(async ({ path, full }) => ({ path, sha256: await hashFile(full) })));
  return digestOf({ number: 1, go: go.record.sha256, digests });
}

describe('extension-agent', () => {
  let go: GoCommand;
  beforeAll(async () => {
    go = await openGo(store, openTools(store), () => undefined);
  }, 600_000);

  test('go vet finds nothing, and the tests pass', async () => {
    const { dir } = await store.result('go-tests', await sourcesKey(go), async (fresh) => {
      await go.online(['mod', 'download'], { cwd });
      await writeFile(
        join(fresh, 'output.txt'),
        await go.offline(['test', '-short', '-vet=all', './...'], { cwd, env: { CGO_ENABLED: '0' } }),
      );
    });
    const output = await readFile(join(dir, 'output.txt'), 'utf8');
    expect(output).toMatch(/^ok .*\/internal\/cli\b/m);
    expect(output).not.toContain('FAIL');
  }, 1_200_000);

  test('the tests pass with the race detector and 200 kills', { tags: ['full'], timeout: 3_600_000 }, async (context) => {
    if (!existsSync('/usr/bin/cc')) return context.skip('the race detector needs a C compiler');
    await go.online(['mod', 'download'], { cwd });
    const output = await go.offline(['test', '-race', '-count=1', './...'], { cwd, env: { CGO_ENABLED: '1' } });
    expect(output).not.toContain('FAIL');
  });
});
