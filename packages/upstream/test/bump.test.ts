import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { loadExtension, readPins } from '@flatcar/core/engine';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { pinVersion } from '../src/pin/pin.ts';
import { applyBump, bumpTo, findBumps } from '../src/update/bump.ts';
import { addChangelogEntry } from '../src/update/changelog.ts';
import { findUnused, pruneLock } from '../src/update/prune.ts';
import { openFakeInternet, type FakeInternet } from './fake-internet.ts';
import { API, downloadsOf, serveProject } from './fake-project.ts';

const core = pathToFileURL(join(import.meta.dirname, '../../core/src/engine.ts')).href;
const DEFINITION = `import { binary, defineExtension, github } from '${core}';
const releases = github('example/tool', '2 minors');
export default defineExtension({
  name: 'tool',
  summary: 'a tool',
  versions: releases,
  components: ({ version }) => [binary('tool', version, releases.asset('tool-linux-{arch}'))],
});
`;

let internet: FakeInternet;
beforeAll(async () => {
  internet = await openFakeInternet();
});
afterAll(() => internet.close());
beforeEach(() => internet.served.clear());

describe('bump', () => {
  let dir: string;
  const pinned = async (): Promise<string[]> => Object.keys(readPins(await readFile(join(dir, 'pins.json'), 'utf8'), dir));

  beforeEach(async () => {
    dir = join(internet.dir, `tool-${Math.random().toString(36).slice(2)}`);
    await mkdir(dir, { recursive: true });
    await writeFile(join(dir, 'extension.ts'), DEFINITION);
    serveProject(internet, '1.2.3');
    await pinVersion(
      { dir, extension: (await loadExtensionless()).extension, version: '1.2.3', licenses: { tool: 'MIT' } },
      internet.context(),
    );
  });
  /** The definition before there are pins. */
  async function loadExtensionless(): Promise<Awaited<ReturnType<typeof loadExtension>>> {
    await writeFile(join(dir, 'pins.json'), '{}');
    return loadExtension(dir);
  }

  test('the newest of each kept branch, with a changelog, and what is not kept leaves the lock', async () => {
    serveProject(internet, '1.3.0', '1.2.4', '1.2.3');
    const { bumps, keep } = await findBumps(await loadExtension(dir), internet.context());
    expect(bumps.map(({ from, version }) => [from, version])).toEqual([
      [undefined, '1.3.0'],
      ['1.2.3', '1.2.4'],
    ]);
    for (const bump of bumps)
      await applyBump(
        dir,
        bump,
        { keep: [...keep, ...bumps.flatMap(({ from }) => (from === bump.from ? [] : (from ?? [])))], keepOld: false },
        internet.context(),
      );
    expect(await pinned()).toEqual(['1.3.0', '1.2.4']);
    expect(await readFile(join(dir, 'CHANGELOG.md'), 'utf8')).toMatch(
      /^# Changes of tool\n\n## 1\.2\.4 \(\d{4}-\d\d-\d\d\)\n\n- tool 1\.2\.3 → 1\.2\.4\n\n## 1\.3\.0/,
    );
  });
  test('nothing to do if upstream has nothing newer', async () => {
    expect((await findBumps(await loadExtension(dir), internet.context())).bumps).toEqual([]);
  });
  test('an API error is an error, and never "no newer version"', async () => {
    internet.served.set(`${API}/releases?per_page=100`, { status: 403, body: '{"message":"forbidden"}' });
    await expect(findBumps(await loadExtension(dir), internet.context())).rejects.toThrow(/403/);
  });
  test('a given version replaces that of its branch only', async () => {
    serveProject(internet, '1.2.9', '1.2.3');
    const { bumps, keep } = await bumpTo(await loadExtension(dir), '1.2.9', internet.context());
    const [bump] = bumps;
    if (bump === undefined) throw new Error('no bump');
    const result = await applyBump(dir, bump, { keep, keepOld: false }, internet.context());
    expect(result).toMatchObject({ from: '1.2.3', dropped: ['1.2.3'], changes: ['tool 1.2.3 → 1.2.9'] });
  });
  test("a file that does not match upstream's hash is not pinned, and nothing is written", async () => {
    serveProject(internet, '1.2.5', '1.2.3');
    internet.served.set(`${downloadsOf('1.2.5')}/tool-linux-arm64`, 'something else');
    const { bumps, keep } = await findBumps(await loadExtension(dir), internet.context());
    const [bump] = bumps;
    if (bump === undefined) throw new Error('no bump');
    await expect(applyBump(dir, bump, { keep, keepOld: false }, internet.context())).rejects.toThrow(/hash/);
    expect(await pinned()).toEqual(['1.2.3']);
  });
  test('an unknown version is an error that names the newest; if upstream does not answer, pin decides', async () => {
    serveProject(internet, '1.2.9', '1.2.3');
    await expect(bumpTo(await loadExtension(dir), '9.9.9', internet.context())).rejects.toMatchObject({
      message: 'tool has no 9.9.9; the newest is 1.2.9',
      next: 'run flatcar-ext bump tool@1.2.9',
    });
    internet.served.delete(`${API}/releases?per_page=100`);
    expect((await bumpTo(await loadExtension(dir), '9.9.9', internet.context())).bumps).toHaveLength(1);
  });
  test.each([
    ['1.2.3', /already pinned/],
    ['v1.3', /not a valid version/],
  ])('%s cannot be bumped to', async (version, message) => {
    const loaded = await loadExtension(dir);
    await expect(bumpTo(loaded, version, internet.context())).rejects.toThrow(message);
  });
  test('what nothing uses is found and removed', async () => {
    const file = join(dir, 'pins.json');
    const json = JSON.parse(await readFile(file, 'utf8')) as Record<string, { bytes: Record<string, object> }>;
    const extra = {
      ...json['1.2.3']?.bytes,
      'https://example.org/old': { sha256: 'a'.repeat(64), proof: 'nothing published: as first downloaded' },
    };
    await writeFile(file, JSON.stringify({ '1.2.3': { ...json['1.2.3'], bytes: extra } }));
    await mkdir(join(dir, 'go/example.org/old@v1.0.0'), { recursive: true });
    await writeFile(join(dir, 'go/example.org/old@v1.0.0/go.mod'), 'module wrapper\n');
    const unused = await findUnused(await loadExtension(dir));
    expect(unused.bytes).toEqual([{ version: '1.2.3', locator: 'https://example.org/old' }]);
    expect(unused.lockModules).toEqual([join(dir, 'go/example.org/old@v1.0.0')]);
    await pruneLock(await loadExtension(dir), []);
    expect(await findUnused(await loadExtension(dir))).toEqual({ bytes: [], licenses: [], lockModules: [] });
    await rm(dir, { recursive: true });
  });
});

test('a changelog grows at its top', () => {
  const first = addChangelogEntry('tool', undefined, { version: '1.0.0', revision: 0, date: '2026-01-01', lines: ['first version'] });
  expect(addChangelogEntry('tool', first, { version: '1.0.0', revision: 1, date: '2026-02-01', lines: ['a', 'b'] })).toBe(
    '# Changes of tool\n\n## 1.0.0-1 (2026-02-01)\n\n- a\n- b\n\n## 1.0.0 (2026-01-01)\n\n- first version\n',
  );
});
