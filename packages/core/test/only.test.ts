import { hostArch } from '../src/model/arch.ts';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { binary, cargo, defineExtension, upstream } from '../src/definition/builders.ts';
import type { LoadedExtension } from '../src/definition/types.ts';
import { openLock } from '../src/util/locks.ts';
import { buildExtension, type BuildOptions } from '../src/pipeline/build.ts';
import { readPins } from '../src/definition/pins.ts';
import { resolveComponents } from '../src/origins/resolve.ts';
import { withoutSandbox } from '../src/tools/sandbox.ts';
import { openStore } from '../src/store/store.ts';
import { pinnedRecords } from '../src/tools/tool-records.ts';
import { openToolchains } from '../src/tools/toolchains.ts';
import { openTools } from '../src/tools/tools.ts';
import type { Payload } from '../src/model/payload.ts';

const script = (name: string): string => `#!/bin/sh\necho ${name}\n`;
const url = (name: string): string => `https://example.org/1.0/${name}`;
const tools = openTools(openStore());

let dir: string;
let loaded: LoadedExtension;
let served: string[];
let notices: string[];
const server = createServer((request, response) => {
  const name = request.url?.split('/').at(-1) ?? '';
  response.writeHead(served.includes(name) ? 200 : 404).end(served.includes(name) ? script(name) : '');
});

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  dir = await mkdtemp(join(tmpdir(), 'only-test-'));
  await mkdir(join(dir, 'files/usr/share/pair'), { recursive: true });
  await writeFile(join(dir, 'files/usr/share/pair/own'), 'ours\n');
  const extension = defineExtension({
    name: 'pair',
    summary: 'two programs',
    versions: { kind: 'date', track: 'newest' },
    components: ({ version }) => ['first', 'second'].map((name) => binary(name, version, upstream(url(name)))),
  });
  const bytes = ['first', 'second', 'absent'].map((name) => [
    url(name),
    { sha256: createHash('sha256').update(script(name)).digest('hex'), proof: 'nothing published: as first downloaded' },
  ]);
  const pins = { '1.0': { licenses: { first: 'MIT', second: 'MIT' }, bytes: Object.fromEntries(bytes) as object } };
  loaded = { dir, extension, fixture: false, pins: readPins(JSON.stringify(pins), 'pins.json') };
});
beforeEach(() => {
  served = ['first'];
  notices = [];
});
afterAll(async () => {
  server.close();
  await rm(dir, { recursive: true, force: true });
});

const options = (): BuildOptions => ({
  version: '1.0',
  arch: 'x86-64',
  targets: ['portable'],
  profile: 'fast',
  origin: 'upstream',
  out: join(dir, 'out'),
  store: openStore(join(dir, 'store')),
  tools,
  report: (event) => (event.type === 'notice' ? notices.push(event.text) : undefined),
  mirror: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
});
async function build(only?: string[]): Promise<Payload> {
  const { payloads } = await buildExtension(loaded, { ...options(), ...(only === undefined ? {} : { only }) });
  const [payload] = payloads;
  if (payload === undefined) throw new Error('no payload');
  return payload;
}
const files = ({ tree }: Payload): string[] => tree.entries.filter(({ type }) => type === 'file').map(({ path }) => path);

test('a component that cannot be had fails the build; without it the rest is built, loudly and never publishable', async () => {
  await expect(build()).rejects.toMatchObject({ where: expect.stringContaining('second') as string });
  const part = await build(['first']);
  expect(files(part)).toEqual(expect.arrayContaining(['usr/bin/first', 'usr/share/pair/own']));
  expect(files(part)).not.toContain('usr/bin/second');
  expect(part).toMatchObject({ version: '1.0', publishBlockers: [{ code: 'incomplete' }] });
  expect(notices.join()).toMatch(/WITHOUT second.*not for publishing/);

  served = ['first', 'second'];
  const whole = await build();
  expect(files(whole)).toEqual(expect.arrayContaining(['usr/bin/first', 'usr/bin/second']));
  expect(whole.publishBlockers).toEqual([]);
  expect(part.key).not.toBe(whole.key);
  // All of them by name: the same bytes, and still not for publishing.
  const named = await build(['first', 'second']);
  expect(named).toMatchObject({ publishBlockers: [{ code: 'incomplete' }], key: whole.key });
  expect((await build()).publishBlockers).toEqual([]);
});

test('an unreachable host fails a component without a source origin, and nothing is compiled for the others', async () => {
  await mkdir(join(dir, 'crate'));
  const components = [
    binary('compiled', '1.0', cargo('./crate', ['compiled'])),
    { ...binary('absent', '1.0', upstream(url('absent'))), noSource: 'it grows on trees' },
  ];
  const [pin] = Object.values(loaded.pins);
  if (pin === undefined) throw new Error('no pin');
  // Whoever compiles now waits: the build must not.
  const lock = await openLock(join(dir, 'store/locks/compile'));
  expect(lock.tryTake(false)).toBe(true);
  try {
    const building = resolveComponents(
      components.map((component) => ({ component, dir, pin })),
      {
        ...options(),
        toolchains: openToolchains(openStore()),
        sandbox: withoutSandbox(),
        records: pinnedRecords(hostArch()),
        mirror: 'http://127.0.0.1:1',
      },
      'auto',
    );
    await expect(building).rejects.toMatchObject({
      message: expect.stringMatching(/^absent 1\.0: .* cannot be reached: .*cannot be built from source: it grows on trees$/) as string,
      next: expect.stringContaining('--only') as string,
    });
  } finally {
    lock.close();
  }
});

test('a name that is not a component is refused with the names of the components', async () => {
  await expect(build(['third'])).rejects.toMatchObject({
    message: "pair has no component 'third'",
    next: 'its components: first, second',
  });
  await expect(build([])).rejects.toThrow('no component of pair is specified');
});
