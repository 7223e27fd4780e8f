import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { github, messageOf, readPins, upstream, UserErrors, type Origin } from '@flatcar/core/engine';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { pinVersion, type PinRequest, type PinResult } from '../src/pin/pin.ts';
import { extensionOf, openFakeInternet, sha, type FakeInternet } from './fake-internet.ts';

const tool = upstream('https://example.org/v{version}/tool-{arch}', { checksum: '{url}.sha256' });
let internet: FakeInternet;
let dir: string;
let file: string;

/** Serves both architectures of a version and their checksums. */
function publish(version: string, content = version, host = 'example.org'): void {
  for (const arch of ['amd64', 'arm64']) {
    const url = `${host}/v${version}/tool-${arch}`;
    internet.served.set(url, `${content} ${arch}`).set(`${url}.sha256`, sha(`${content} ${arch}`));
  }
}
const pin = (version: string, more: Partial<PinRequest> = {}, origins: Origin[] = [tool]): Promise<PinResult> =>
  pinVersion({ dir, extension: extensionOf(origins), version, licenses: { tool: 'MIT' }, ...more }, internet.context());
const locator = (version: string, arch: string): string => `https://example.org/v${version}/tool-${arch}`;
/** One server that closes the connection: a host that cannot be reached. */
const gone = (host: string): void => {
  for (const url of internet.served.keys()) if (url.startsWith(host)) internet.served.set(url, (request) => (request.socket.destroy(), {}));
};

beforeAll(async () => {
  internet = await openFakeInternet();
  dir = join(internet.dir, 'tool');
  file = join(dir, 'pins.json');
});
afterAll(() => internet.close());
beforeEach(async () => {
  internet.served.clear();
  internet.events.length = 0;
  await rm(dir, { recursive: true, force: true });
  await rm(join(internet.dir, 'store', 'blobs'), { recursive: true, force: true });
  publish('1.2.3');
});

describe('writes', () => {
  test('both architectures with size and proof, as core reads it', async () => {
    const result = await pin('1.2.3');
    expect(result.written).toEqual([file]);
    expect(result.lines.map(({ change }) => change)).toEqual(['new', 'new']);
    expect(readPins(await readFile(file, 'utf8'), file)).toEqual({
      '1.2.3': {
        revision: 0,
        packaging: expect.stringMatching(/^[0-9a-f]{64}$/),
        coupled: {},
        licenses: { tool: 'MIT' },
        bytes: Object.fromEntries(
          ['amd64', 'arm64'].map((arch) => [
            locator('1.2.3', arch),
            { sha256: sha(`1.2.3 ${arch}`), size: `1.2.3 ${arch}`.length, proof: 'sha256 file' },
          ]),
        ),
      },
    });
    expect(await internet.context().store.blob(sha('1.2.3 arm64'))).toBeDefined();
  });
  test('the same again changes nothing', async () => {
    await pin('1.2.3');
    const before = await readFile(file, 'utf8');
    const again = await pin('1.2.3');
    expect(again).toMatchObject({ written: [], lines: [{ change: 'same' }, { change: 'same' }] });
    expect(await readFile(file, 'utf8')).toBe(before);
  });
  test('newest first, and other versions unchanged', async () => {
    await pin('1.2.3');
    const odd = (await readFile(file, 'utf8')).replace('"revision": 0,', '').replace('"1.2.3"', '"1.9.0"');
    await writeFile(file, odd);
    publish('1.10.0');
    await pin('1.10.0');
    const after = JSON.parse(await readFile(file, 'utf8')) as Record<string, object>;
    expect(Object.keys(after)).toEqual(['1.10.0', '1.9.0']);
    expect(after['1.9.0']).toEqual((JSON.parse(odd) as Record<string, object>)['1.9.0']);
  });
  test('the known license, or that of GitHub', async () => {
    await pin('1.2.3');
    publish('1.3.0');
    await pin('1.3.0', { licenses: {} });
    expect(readPins(await readFile(file, 'utf8'), file)['1.3.0']?.licenses).toEqual({ tool: 'MIT' });
    await rm(dir, { recursive: true });
    publish('1.2.3', 'x', 'github.com/example/tool/releases/download');
    internet.served.set('api.github.com/repos/example/tool/license', '{"license":{"key":"apache-2.0","spdx_id":"Apache-2.0"}}');
    const origins = [github('example/tool').asset('tool-{arch}', { checksum: '{url}.sha256' })];
    await pin('1.2.3', { licenses: {} }, origins);
    expect(readPins(await readFile(file, 'utf8'), file)['1.2.3']?.licenses).toEqual({ tool: 'Apache-2.0' });
    await rm(dir, { recursive: true });
    await expect(pin('1.2.3', { licenses: {} })).rejects.toThrow(/licence of tool is unknown/);
  });
});

describe('writes nothing', () => {
  /** The errors of a run that must leave all as it was. */
  const refused = async (run: () => Promise<unknown>): Promise<string> => {
    const before = await readFile(file, 'utf8').catch(() => 'none');
    const error = await run().then(
      () => undefined,
      (reason: Error) => reason,
    );
    expect(await readFile(file, 'utf8').catch(() => 'none')).toBe(before);
    expect((await readdir(dir).catch(() => [])).filter((name) => name !== 'pins.json')).toEqual([]);
    return error instanceof UserErrors ? [error, ...error.errors].map(messageOf).join('\n') : messageOf(error);
  };

  test('when one file of one architecture is wrong or missing', async () => {
    await pin('1.2.3');
    publish('1.3.0');
    internet.served.set('example.org/v1.3.0/tool-arm64', 'something else');
    expect(await refused(() => pin('1.3.0'))).toMatch(/not match the hash published upstream/);
    internet.served.delete('example.org/v1.3.0/tool-arm64');
    expect(await refused(() => pin('1.3.0'))).toMatch(/answered 404/);
  });
  test('when the address has the version of another release written into it', async () => {
    const fixed = upstream('https://example.org/v1.2.3/tool-{arch}', { checksum: '{url}.sha256' });
    await pin('1.2.3', {}, [fixed]);
    expect(await refused(() => pin('1.2.4', {}, [fixed]))).toContain('tool 1.2.4 uses a file of version 1.2.3');
    // What has no version in its address, or only the branch, is not told from another.
    const branch = upstream('https://example.org/1.2/tool-{arch}', { checksum: '{url}.sha256' });
    for (const arch of ['amd64', 'arm64'])
      internet.served.set(`example.org/1.2/tool-${arch}`, arch).set(`example.org/1.2/tool-${arch}.sha256`, sha(arch));
    expect((await pin('1.2.4', {}, [branch])).version).toBe('1.2.4');
  });
  test('and reports all errors together', async () => {
    for (const arch of ['amd64', 'arm64']) internet.served.set(`example.org/v1.2.3/tool-${arch}`, 'something else');
    await expect(pin('1.2.3')).rejects.toThrow(
      expect.objectContaining({
        message: '2 inputs could not be pinned; nothing was written',
        errors: [expect.anything(), expect.anything()],
      }),
    );
  });
  test('when pinned bytes were replaced, checksum and all', async () => {
    await pin('1.2.3');
    publish('1.2.3', 'replaced');
    expect(await refused(() => pin('1.2.3'))).toMatch(/is pinned as [0-9a-f]{64}, but upstream now has [0-9a-f]{64}/);
  });
  test('when a host does not answer and nothing was pinned', async () => {
    gone('example.org');
    expect(await refused(() => pin('1.2.3'))).toMatch(/cannot pin tool 1\.2\.3: the connection to \S+ broke/);
  });
  test('when a coupled component is not in the definition', async () => {
    expect(await refused(() => pin('1.2.3', { coupled: { runc: '1' } }))).toMatch(/'runc' is not coupled/);
  });
});

describe('an existing pin', () => {
  test('other bytes or packaging take a higher revision', async () => {
    expect((await pin('1.2.3', { revision: true })).revision).toBe(0);
    expect((await pin('1.2.3')).revision).toBe(0);
    expect((await pin('1.2.3', { revision: true })).revision).toBe(1);
    publish('1.2.3', 'replaced');
    const result = await pin('1.2.3', { revision: true });
    expect(result).toMatchObject({ revision: 2, lines: [{ change: 'other' }, { change: 'other' }] });
    expect(readPins(await readFile(file, 'utf8'), file)['1.2.3']).toMatchObject({
      revision: 2,
      bytes: { [locator('1.2.3', 'amd64')]: { sha256: sha('replaced amd64') } },
    });
  });
  test('is kept with a notice if its host does not answer', async () => {
    await pin('1.2.3');
    const text = (await readFile(file, 'utf8')).replaceAll('sha256 file', 'third-party pin');
    await writeFile(file, text);
    gone('example.org');
    const result = await pin('1.2.3');
    expect(result).toMatchObject({ written: [], lines: [{ change: 'kept', proof: 'third-party pin' }, { change: 'kept' }] });
    expect(await readFile(file, 'utf8')).toBe(text);
    expect(internet.events.filter(({ type }) => type === 'notice')).toHaveLength(2);
  });
  test('an error of the host does not keep a pin', async () => {
    await pin('1.2.3');
    internet.served.set('example.org/v1.2.3/tool-amd64.sha256', { status: 500 });
    await expect(pin('1.2.3')).rejects.toThrow(/answered 500/);
  });
  test('a better proof replaces a weaker one, never the other way', async () => {
    await pin('1.2.3');
    await writeFile(file, (await readFile(file, 'utf8')).replaceAll('sha256 file', 'third-party pin'));
    const plain = upstream('https://example.org/v{version}/tool-{arch}');
    expect((await pin('1.2.3', {}, [plain])).lines[0]?.proof).toBe('third-party pin');
    expect((await pin('1.2.3')).lines[0]?.proof).toBe('sha256 file');
    expect((await pin('1.2.3', {}, [plain])).lines[0]?.proof).toBe('sha256 file');
  });
});

describe('what is coupled', () => {
  const extension = extensionOf([], {
    coupled: { helper: { kind: 'json', url: 'https://example.org/helper.json#versions', track: 'same minor' } },
    components: (v) => [{ name: 'helper', version: v['helper'] ?? '', origins: [tool], install: [{ from: 'tool', to: 'usr/bin/' }] }],
  });
  const run = (more: Partial<PinRequest> = {}): Promise<PinResult> =>
    pinVersion({ dir, extension, version: '1.2.0', licenses: { helper: 'MIT' }, ...more }, internet.context());

  test('follows the policy, an argument, and then the pin', async () => {
    internet.served.set('example.org/helper.json', '{"versions":["1.2.3","1.2.2","1.3.0"]}');
    expect((await run()).coupled).toEqual({ helper: '1.2.3' });
    internet.served.set('example.org/helper.json', '{"versions":["1.2.9"]}');
    expect((await run()).coupled).toEqual({ helper: '1.2.3' });
    publish('1.2.2');
    await expect(run({ coupled: { helper: '1.2.2' } })).rejects.toThrow(/is pinned with other versions/);
    expect(await run({ coupled: { helper: '1.2.2' }, revision: true })).toMatchObject({ coupled: { helper: '1.2.2' }, revision: 1 });
  });
  test('reports the next step if upstream does not answer', async () => {
    await expect(run()).rejects.toThrow(expect.objectContaining({ next: 'pass --coupled helper=VERSION' }));
  });
});

test('a lock that is shared is written by the version of its component, and keeps what others have in it', async () => {
  const shared = join(internet.dir, 'locks', 'tool');
  publish('2.0.0');
  const extension = (name: string) =>
    extensionOf([], {
      components: () => [
        {
          name,
          version: '2.0.0',
          origins: [
            upstream(`https://example.org/v{version}/tool-{arch}`, {
              checksum: `{url}.sha256`,
              ...(name === 'b' ? { arch: { 'x86-64': 'arm64', arm64: 'amd64' } } : {}),
            }),
          ],
          install: [{ from: 'tool', to: 'usr/bin/' }],
          lock: shared,
        },
      ],
    });
  const run = (name: string): Promise<PinResult> =>
    pinVersion({ dir, extension: extension(name), version: '7.0', licenses: { [name]: 'MIT' } }, internet.context());
  expect((await run('a')).written).toEqual([join(shared, 'pins.json'), file]);
  await run('b');
  const pins = readPins(await readFile(join(shared, 'pins.json'), 'utf8'), 'shared');
  expect(Object.keys(pins)).toEqual(['2.0.0']);
  expect(pins['2.0.0']).toMatchObject({ licenses: { a: 'MIT', b: 'MIT' } });
  expect(readPins(await readFile(file, 'utf8'), file)['7.0']?.bytes).toEqual({});
});

test('two at once do not lose what the other wrote', async () => {
  publish('2.0.0');
  await Promise.all([pin('1.2.3'), pin('2.0.0')]);
  expect(Object.keys(readPins(await readFile(file, 'utf8'), file))).toEqual(['2.0.0', '1.2.3']);
});
