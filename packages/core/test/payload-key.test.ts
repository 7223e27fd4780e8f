import { createHash, randomBytes } from 'node:crypto';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { contentInputs } from '../src/pipeline/describe.ts';
import { allComponents } from '../src/definition/components.ts';
import { binary, defineExtension, upstream } from '../src/definition/builders.ts';
import type { Extension, ExtensionDefinition, LoadedExtension } from '../src/definition/types.ts';
import { findExtensions, loadExtension } from '../src/definition/load.ts';
import type { OriginDescription } from '../src/origins/origin.ts';
import type { PinnedVersion } from '../src/definition/pins.ts';
import { buildExtension, type BuildResult } from '../src/pipeline/build.ts';
import { describeComponents, type DescribedComponent } from '../src/origins/resolve.ts';
import { openStore } from '../src/store/store.ts';
import { pinnedRecords } from '../src/tools/tool-records.ts';
import { openTools } from '../src/tools/tools.ts';
import { serve, type TestServer } from './helpers/server.ts';
import { targetOf } from './helpers/targets.ts';

const tools = openTools(openStore());
const [ddi, otherDdi] = [targetOf('4790.0.0'), targetOf('4757.0.0')];
const url = 'https://dl.example.org/v{version}/tool';
const locator = 'https://dl.example.org/v1.0/tool';
// It does not shrink to less than half: a disk image of it has a hash tree of two levels.
const program = Buffer.concat([Buffer.from('#!/bin/sh\nexit 0\n'), Buffer.from(randomBytes(400_000).toString('hex'))]);

const definition: ExtensionDefinition = {
  name: 'demo',
  summary: 'a tool',
  versions: { kind: 'date', track: 'newest' },
  components: ({ version = '' }) => [binary('tool', version, upstream(url))],
  start: ['one.service'],
  requiredPaths: ['usr/share/demo/LICENSE'],
};
const pin: PinnedVersion = {
  revision: 1,
  coupled: {},
  licenses: { tool: 'MIT' },
  bytes: { [locator]: { sha256: createHash('sha256').update(program).digest('hex'), proof: 'nothing published: as first downloaded' } },
};

let dir: string;
let server: TestServer;
let first: BuildResult;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'payload-key-'));
  server = await serve({ [locator.replace('https:/', '')]: program });
  const units = join(dir, 'extension/files/usr/lib/systemd/system');
  await mkdir(units, { recursive: true });
  await mkdir(join(dir, 'extension/files/usr/share/demo'), { recursive: true });
  for (const name of ['one', 'two'])
    await writeFile(join(units, `${name}.service`), '[Service]\nExecStart=/usr/bin/tool\n[Install]\nWantedBy=multi-user.target\n');
  await writeFile(join(dir, 'extension/files/usr/share/demo/LICENSE'), 'You may.\n');
  first = await build({});
});
afterAll(async () => {
  await server.close();
  await rm(dir, { recursive: true, force: true });
});

interface Change {
  readonly definition?: Partial<ExtensionDefinition>;
  readonly pin?: Partial<PinnedVersion>;
  /** Text of a file of the extension's own. */
  readonly own?: string;
}

let builds = 0;
/** Builds the extension with something changed, in a store that has made nothing yet but the downloads. */
async function build(change: Change, store = join(dir, `store${builds}`)): Promise<BuildResult> {
  builds += 1;
  const at = join(dir, `extension${builds}`);
  await cp(join(dir, 'extension'), at, { recursive: true });
  await writeFile(join(at, 'extension.ts'), 'export default {};\n'); // where findings of lint are said to be
  if (change.own !== undefined) await writeFile(join(at, 'files/usr/share/demo/LICENSE'), change.own);
  const loaded: LoadedExtension = {
    dir: at,
    fixture: false,
    extension: defineExtension({ ...definition, ...change.definition }),
    pins: { '1.0': { ...pin, ...change.pin } },
  };
  return buildExtension(loaded, {
    version: '1.0',
    arch: 'x86-64',
    targets: ['portable', ddi, otherDdi],
    profile: 'fast',
    origin: 'upstream',
    out: join(dir, `out${builds}`),
    store: openStore(store),
    tools,
    report: () => undefined,
    mirror: server.url,
  });
}
/** A program with the set-user-ID bit, which only a waiver lets through. */
const setuid = (reason: string | undefined): Change => ({
  definition: {
    components: ({ version = '' }) => [
      { ...binary('tool', version, upstream(url)), install: [{ from: 'tool', to: 'usr/bin/', mode: 0o4755 }] },
    ],
    waive: reason === undefined ? {} : { setuid: reason },
  },
});
const bytesOf = ({ images, payloads }: BuildResult): string[] => [
  ...images.map(({ target, sha256 }) => `${target} ${sha256}`),
  ...payloads.map(({ format, key }) => `${format} ${key}`),
];

describe('a field about an image that is not in its bytes changes no byte and no key of its payload', () => {
  test.each<[string, Change]>([
    ['summary', { definition: { summary: 'another tool' } }],
    ['extensions that it cannot be merged with', { definition: { conflicts: ['other'] } }],
    ['paths that it must hold', { definition: { requiredPaths: ['usr/bin/tool'] } }],
    ['license', { pin: { licenses: { tool: 'Apache-2.0 AND MIT' } } }],
    ['proof', { pin: { bytes: { [locator]: { ...pin.bytes[locator]!, proof: 'signed by upstream' } } } }],
    ['size', { pin: { bytes: { [locator]: { ...pin.bytes[locator]!, size: program.length } } } }],
  ])('%s', async (_, change) => {
    expect(bytesOf(await build(change))).toEqual(bytesOf(first));
  });

  test('waiver and its reason', async () => {
    const [one, two] = [await build(setuid('one reason')), await build(setuid('another reason'))];
    expect(bytesOf(two)).toEqual(bytesOf(one));
  });
});

describe('what decides the bytes is in the key of the payload', () => {
  test.each<[string, Change]>([
    ['revision', { pin: { revision: 2 } }],
    ['units that are started', { definition: { start: ['two.service'] } }],
    // The text of a license that is shipped is a file as any other.
    ['a file of its own, the text of a license', { own: 'You may not.\n' }],
    [
      'place of a program',
      {
        definition: {
          components: ({ version = '' }) => [
            {
              ...binary('tool', version, upstream(url)),
              install: [
                { from: 'tool', to: 'usr/bin/' },
                { from: 'tool', to: 'usr/share/demo/' },
              ],
            },
          ],
        },
      },
    ],
  ])('%s', async (_, change) => {
    const was = bytesOf(first);
    for (const one of bytesOf(await build(change))) expect(was).not.toContain(one);
  });

  test('name of a program that is renamed when it is compiled, and the format number of each origin', async () => {
    const extension = { name: 'demo', kind: 'sysext', start: [] } as unknown as Extension;
    const loaded = { extension } as LoadedExtension;
    const described = (description: Partial<OriginDescription>): DescribedComponent[] =>
      [
        {
          component: { name: 'x', version: '1', install: [] },
          origin: { kind: 'go' },
          description: { format: 'go 1', materials: [], parameters: {}, tools: [], ...description },
        },
      ] as unknown as DescribedComponent[];
    const inputs = (description: Partial<OriginDescription>): string => JSON.stringify(contentInputs(loaded, '1', described(description)));
    expect(inputs({})).toBe(inputs({}));
    expect(inputs({ format: 'go 2' })).not.toBe(inputs({}));
    // Every extension of this repository, by every origin that its definition has.
    const repository = join(import.meta.dirname, '../../..');
    const formats = new Map<string, Set<string>>();
    let renamed = 0;
    for (const folder of await findExtensions(repository)) {
      const real = await loadExtension(folder);
      const [version = ''] = Object.keys(real.pins);
      const { components, own } = await allComponents(real, version);
      for (const one of [...components, ...own])
        for (const origin of one.component.origins) {
          const [found] = await describeComponents([one], { arch: 'x86-64', records: pinnedRecords('x86-64') }, [origin.kind]);
          if (found === undefined) throw new Error('nothing is described');
          const { format, parameters } = found.description;
          formats.set(origin.kind, (formats.get(origin.kind) ?? new Set()).add(format));
          if (origin.kind === 'go' && origin.rename !== undefined) {
            renamed += 1;
            for (const name of Object.values(origin.rename)) expect(Object.values(parameters).join()).toContain(name);
          }
        }
    }
    expect(renamed).toBeGreaterThan(0);
    expect([...formats.keys()].toSorted()).toEqual(['cargo', 'debian', 'files', 'go', 'source', 'upstream']);
    for (const [kind, found] of formats) for (const format of found) expect(format, kind).toMatch(/^[a-z]+ \d+(?:, toolchain \d+)?$/);
    for (const kind of ['cargo', 'source']) expect([...(formats.get(kind) ?? [])].join()).toContain('toolchain');
  });

  test('a payload that the store has is linted again when less is waived', async () => {
    const store = join(dir, 'lint-store');
    await build(setuid('a reason'), store);
    await expect(build(setuid(undefined), store)).rejects.toThrow(/lint found 1 error/);
  });
});

test('disk images of two releases differ in a few blocks: release file, the hashes above it, partition tables', async () => {
  const [one, two] = await Promise.all(
    [ddi, otherDdi].map((target) => readFile(first.images.find((image) => image.target === target.number)?.file ?? '')),
  );
  if (one === undefined || two === undefined) throw new Error('there are not two');
  expect(two.length).toBe(one.length);
  const blocks = Array.from({ length: Math.ceil(one.length / 4096) }, (_, index) => index * 4096);
  const different = blocks.filter((at) => !one.subarray(at, at + 4096).equals(two.subarray(at, at + 4096)));
  // Of more than 128 blocks of data one differs, with one of the blocks of their hashes and the one above it; the rest are partition tables.
  expect(blocks.length).toBeGreaterThan(350);
  expect(different.length).toBeGreaterThanOrEqual(4);
  expect(different.length).toBeLessThanOrEqual(8);
});
