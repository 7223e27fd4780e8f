import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { loadExtension, readPins, type Arch, type Event } from '@flatcar/core/engine';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { applyBump, bumpTo, findBumps } from '@flatcar/upstream/update/bump';
import { addChangelogEntry } from '@flatcar/upstream/update/changelog';
import { countedPackages } from '@flatcar/upstream/context';
import { recognizeLicense } from '../src/new/inspect.ts';
import { planNew, type Ask, type NewRequest } from '../src/new/plan.ts';
import { findUnused, pruneLock } from '@flatcar/upstream/update/prune';
import { definitionText, scaffold, serviceText, testText, type Plan } from '../src/new/scaffold.ts';
import { pinVersion } from '@flatcar/upstream/pin/pin';
import { openWorld, sha, type World } from '@flatcar/upstream/test/fake-internet';

const MACHINES: Readonly<Record<Arch, number>> = { 'x86-64': 62, arm64: 183 };

/** A static program: nothing but the header of an ELF file (elf(5)). */
function program(arch: Arch): Buffer {
  const header = Buffer.alloc(64);
  header.write('\x7fELF', 0, 'latin1');
  header.set([2, 1, 1], 4);
  header.writeUInt16LE(2, 16);
  header.writeUInt16LE(MACHINES[arch], 18);
  header.writeUInt16LE(56, 54);
  header.writeUInt16LE(64, 58);
  return header;
}

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world.close());
beforeEach(() => world.served.clear());

const API = 'api.github.com/repos/example/tool';
const files = (version: string): string => `github.com/example/tool/releases/download/v${version}`;
const published = (
  version: string,
): { tag_name: string; draft: boolean; prerelease: boolean; published_at: string; assets: { name: string; digest: string }[] } => ({
  tag_name: `v${version}`,
  draft: false,
  prerelease: false,
  published_at: '2026-11-01T10:00:00Z',
  assets: (['x86-64', 'arm64'] as const).map((arch) => ({
    name: `tool-linux-${arch === 'arm64' ? 'arm64' : 'amd64'}`,
    digest: `sha256:${sha(Buffer.concat([program(arch), Buffer.from(version)]))}`,
  })),
});

/** A GitHub project with raw programs, as the API and the download host give them. */
function serve(...versions: readonly string[]): void {
  const [newest = ''] = versions;
  world.served
    .set(`${API}/releases/latest`, JSON.stringify(published(newest)))
    .set(`${API}/releases?per_page=100`, JSON.stringify(versions.map(published)))
    .set(`${API}/license`, JSON.stringify({ license: { spdx_id: 'MIT' } }))
    .set(API, JSON.stringify({ description: 'A tool that does things. It is fast.' }));
  for (const version of versions) {
    world.served.set(`${API}/releases/tags/v${version}`, JSON.stringify(published(version)));
    for (const arch of ['x86-64', 'arm64'] as const)
      world.served.set(
        `${files(version)}/tool-linux-${arch === 'arm64' ? 'arm64' : 'amd64'}`,
        Buffer.concat([program(arch), Buffer.from(version)]),
      );
  }
}

/** Takes what is proposed, and remembers what it was told. */
function asker(): { ask: Ask; notes: string[] } {
  const notes: string[] = [];
  return {
    notes,
    ask: {
      text: async (question, flag, proposed) => proposed ?? Promise.reject(new Error(`${question} ${flag}`)),
      choose: async (_, options) => (options[0] ?? { value: undefined as never }).value,
      note: (text) => void notes.push(text),
    },
  };
}
const request = (more: Partial<NewRequest>): NewRequest => ({ name: 'tool', keep: 'newest', suite: 'trixie', known: false, ...more });

describe('a plan from what upstream offers', () => {
  test('GitHub: files, checksum, programs, licence and description are found', async () => {
    serve('1.2.3');
    const plan = await planNew(request({ github: 'example/tool' }), asker().ask, world.context());
    expect(plan).toMatchObject({
      version: '1.2.3',
      license: 'MIT',
      summary: 'A tool that does things',
      programs: ['tool'],
      github: { repo: 'example/tool', tagPrefix: 'v' },
      file: { pattern: 'tool-linux-{arch}', checksum: 'github', signatures: [] },
    });
  });
  test('a saved listing stands in for the API', async () => {
    serve('1.2.3');
    for (const url of world.served.keys()) if (url.startsWith(API)) world.served.delete(url);
    const listing = { text: JSON.stringify(published('1.2.3')), where: 'saved.json' };
    const plan = await planNew(
      request({ github: 'example/tool', listing, license: 'MIT', summary: 'a tool' }),
      asker().ask,
      world.context(),
    );
    expect(plan.file?.pattern).toBe('tool-linux-{arch}');
  });
  test('a URL of one version becomes a pattern', async () => {
    serve('1.2.3');
    const plan = await planNew(
      request({ url: `https://${files('1.2.3')}/tool-linux-amd64`, version: '1.2.3', license: 'MIT', summary: 'a tool' }),
      asker().ask,
      world.context(),
    );
    expect(plan.file).toEqual({
      pattern: 'https://github.com/example/tool/releases/download/v{version}/tool-linux-{arch}',
      checksum: 'none',
      signatures: [],
    });
  });
  test('a file for another architecture is refused', async () => {
    serve('1.2.3');
    world.served.set(`${files('1.2.3')}/tool-linux-arm64`, program('x86-64'));
    await expect(planNew(request({ github: 'example/tool' }), asker().ask, world.context())).rejects.toThrow(/no program for arm64/);
  });
  test.each([
    [{}, /nothing says where|version is not known/],
    [{ github: 'example/none' }, /404/],
    [{ url: 'https://example.org/x', version: '1.0.0-rc1' }, /no version to ship/],
  ])('%j is told', async (more, message) => {
    await expect(planNew(request(more), asker().ask, world.context())).rejects.toThrow(message);
  });
  test('what nobody knows is asked for by its flag', async () => {
    serve('1.2.3');
    world.served.delete(`${API}/license`);
    await expect(planNew(request({ github: 'example/tool' }), asker().ask, world.context())).rejects.toThrow(/--license/);
  });
});

const PLAN: Plan = {
  name: 'tool',
  summary: "upstream's tool",
  version: '1.2.3',
  license: 'MIT',
  keep: 'newest',
  programs: ['tool'],
  github: { repo: 'example/tool', tagPrefix: 'v' },
  file: { pattern: 'tool-linux-{arch}', checksum: 'github', signatures: [] },
};

describe('the package that is written', () => {
  test('a definition of one program has at most fifteen lines', () => {
    const text = definitionText(PLAN);
    expect(text.trim().split('\n').length).toBeLessThanOrEqual(15);
    expect(text).toContain(`binary('tool', version, releases.asset('tool-linux-{arch}'))`);
    expect(text).toContain(`summary: 'upstream\\'s tool'`);
  });
  test('a unit has its place, its start and its test', () => {
    const text = serviceText(PLAN.summary, { exec: '/usr/bin/tool serve', condition: '/etc/tool.conf' });
    const written = scaffold({ ...PLAN, unit: { name: 'tool.service', text } }, []);
    expect(written.map(({ path }) => path)).toContain('files/usr/lib/systemd/system/tool.service');
    expect(written.find(({ path }) => path === 'extension.ts')?.text).toContain(`start: ['tool.service']`);
    expect(written.find(({ path }) => path.endsWith('.service'))?.text).toMatch(/^ConditionPathExists=\/etc\/tool\.conf$/m);
  });
  test('a program that no command was found for is looked for; what help says is taken as it stands', () => {
    const text = testText({ ...PLAN, programs: ['tool', 'toold'] }, [{ run: ['tool', '--help'], says: 'Usage (short): [-a|-b]' }]);
    expect(text).toContain(String.raw`{ run: ['tool', '--help'], says: /Usage \(short\): \[-a\|-b\]/ }`);
    expect(text).toContain(`paths: ['/usr/bin/toold']`);
    expect(testText(PLAN, [{ run: ['tool', '--version'], says: 'version' }])).not.toContain('paths');
  });
  test('two origins stand in the order in which they are preferred', () => {
    const text = definitionText({
      ...PLAN,
      go: { module: 'example.org/tool', packages: ['cmd/cli'], stamps: { 'main.version': 'v{version}' }, tags: [] },
    });
    expect(text.indexOf('releases.asset')).toBeLessThan(text.indexOf(`go('example.org/tool', 'cmd/cli'`));
    expect(text).toContain(`rename: { 'cmd/cli': 'tool' }`);
  });
});

test.each([
  ['Apache License\n                           Version 2.0, January 2004', 'Apache-2.0'],
  ['Permission is hereby granted, free of charge, to any person obtaining\na copy of this software', 'MIT'],
  ['All rights reserved.', undefined],
])('a licence is recognised by its text', (text, id) => {
  expect(recognizeLicense(text)).toBe(id);
});

describe('bump', () => {
  let dir: string;
  const pinned = async (): Promise<string[]> => Object.keys(readPins(await readFile(join(dir, 'pins.json'), 'utf8'), dir));

  beforeEach(async () => {
    dir = join(world.dir, `tool-${Math.random().toString(36).slice(2)}`);
    await mkdir(dir, { recursive: true });
    const core = pathToFileURL(join(import.meta.dirname, '../../core/src/engine.ts')).href;
    await writeFile(
      join(dir, 'extension.ts'),
      definitionText({ ...PLAN, keep: '2 minors' })
        .replace("'@flatcar/core'", `'${core}'`)
        .replace("github('example/tool', '2 minors')", "github('example/tool', '2 minors')"),
    );
    serve('1.2.3');
    await pinVersion(
      { dir, extension: (await loadExtensionless()).extension, version: '1.2.3', licenses: { tool: 'MIT' } },
      world.context(),
    );
  });
  /** The definition before there are pins. */
  async function loadExtensionless(): Promise<Awaited<ReturnType<typeof loadExtension>>> {
    await writeFile(join(dir, 'pins.json'), '{}');
    return loadExtension(dir);
  }

  test('the newest of each kept branch, with a changelog, and what is not kept leaves the lock', async () => {
    serve('1.3.0', '1.2.4', '1.2.3');
    const { bumps, keep } = await findBumps(await loadExtension(dir), world.context());
    expect(bumps.map(({ from, version }) => [from, version])).toEqual([[undefined, '1.3.0'], ['1.2.3', '1.2.4']]); // prettier-ignore
    for (const bump of bumps)
      await applyBump(
        dir,
        bump,
        { keep: [...keep, ...bumps.flatMap(({ from }) => (from === bump.from ? [] : (from ?? [])))], keepOld: false },
        world.context(),
      );
    expect(await pinned()).toEqual(['1.3.0', '1.2.4']);
    expect(await readFile(join(dir, 'CHANGELOG.md'), 'utf8')).toMatch(
      /^# Changes of tool\n\n## 1\.2\.4 \(\d{4}-\d\d-\d\d\)\n\n- tool 1\.2\.3 → 1\.2\.4\n\n## 1\.3\.0/,
    );
  });
  test('nothing to do where upstream has nothing newer', async () => {
    expect((await findBumps(await loadExtension(dir), world.context())).bumps).toEqual([]);
  });
  test('an API error is an error, and never "no newer version"', async () => {
    world.served.set(`${API}/releases?per_page=100`, { status: 403, body: '{"message":"forbidden"}' });
    await expect(findBumps(await loadExtension(dir), world.context())).rejects.toThrow(/403/);
  });
  test('a version that somebody names takes the place of its branch only', async () => {
    serve('1.2.9', '1.2.3');
    const { bumps, keep } = await bumpTo(await loadExtension(dir), '1.2.9', world.context());
    const [bump] = bumps;
    if (bump === undefined) throw new Error('no bump');
    const result = await applyBump(dir, bump, { keep, keepOld: false }, world.context());
    expect(result).toMatchObject({ from: '1.2.3', dropped: ['1.2.3'], changes: ['tool 1.2.3 → 1.2.9'] });
  });
  test('a file that is not what upstream says is not pinned, and nothing is written', async () => {
    serve('1.2.5', '1.2.3');
    world.served.set(`${files('1.2.5')}/tool-linux-arm64`, 'something else');
    const { bumps, keep } = await findBumps(await loadExtension(dir), world.context());
    const [bump] = bumps;
    if (bump === undefined) throw new Error('no bump');
    await expect(applyBump(dir, bump, { keep, keepOld: false }, world.context())).rejects.toThrow(/hash/);
    expect(await pinned()).toEqual(['1.2.3']);
  });
  test('a version that upstream does not have is told with the newest; where nobody can be asked it is left to pinning', async () => {
    serve('1.2.9', '1.2.3');
    await expect(bumpTo(await loadExtension(dir), '9.9.9', world.context())).rejects.toMatchObject({
      message: 'tool has no 9.9.9; the newest is 1.2.9',
      next: 'flatcar-ext bump tool@1.2.9',
    });
    world.served.delete(`${API}/releases?per_page=100`);
    expect((await bumpTo(await loadExtension(dir), '9.9.9', world.context())).bumps).toHaveLength(1);
  });
  test.each([
    ['1.2.3', /pinned already/],
    ['v1.3', /no version to ship/],
  ])('%s cannot be bumped to', async (version, message) => {
    const loaded = await loadExtension(dir);
    await expect(bumpTo(loaded, version, world.context())).rejects.toThrow(message);
  });
  test('what nothing asks for is found and taken out', async () => {
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
    expect(unused.wrappers).toEqual([join(dir, 'go/example.org/old@v1.0.0')]);
    await pruneLock(await loadExtension(dir), []);
    expect(await findUnused(await loadExtension(dir))).toEqual({ bytes: [], licenses: [], wrappers: [] });
    await rm(dir, { recursive: true });
  });
});

test('a changelog grows at its top', () => {
  const first = addChangelogEntry('tool', undefined, { version: '1.0.0', revision: 0, date: '2026-01-01', lines: ['first version'] });
  expect(addChangelogEntry('tool', first, { version: '1.0.0', revision: 1, date: '2026-02-01', lines: ['a', 'b'] })).toBe(
    '# Changes of tool\n\n## 1.0.0-1 (2026-02-01)\n\n- a\n- b\n\n## 1.0.0 (2026-01-01)\n\n- first version\n',
  );
});

test('packages that are fetched are counted in one line; everything else is told as it is', () => {
  const told: Event[] = [];
  const report = countedPackages((event) => void told.push(event));
  for (const text of [
    'resolving',
    'fetching http://deb.example.org/pool/a_1%3a2_amd64.deb',
    'fetching http://deb.example.org/pool/b_1_all.deb',
    'fetching http://deb.example.org/x.gz',
  ])
    report({ type: 'step', text });
  expect(told).toEqual([
    { type: 'step', text: 'resolving' },
    { type: 'log', what: 'packages', line: 'package 1: a_1:2_amd64' },
    { type: 'log', what: 'packages', line: 'package 2: b_1_all' },
    { type: 'step', text: 'fetching http://deb.example.org/x.gz' },
  ]);
});
