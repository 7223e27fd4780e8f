import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { goWithProxy, hostGo, publishModule } from '@flatcar/core/test/fake-go-proxy';
import { go, readPins, upstream, type GoCommand, type GoOrigin } from '@flatcar/core/engine';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { pinVersion, type PinRequest, type PinResult } from '../src/pin/pin.ts';
import { extensionOf, openFakeInternet, sha, type FakeInternet } from './fake-internet.ts';

const MODULE = 'example.org/tool';
let internet: FakeInternet;
let dir: string;
let proxy: string;
let command: GoCommand;

beforeAll(async () => {
  internet = await openFakeInternet();
  dir = join(internet.dir, 'tool');
  proxy = join(internet.dir, 'proxy');
  command = goWithProxy(proxy, internet.dir);
  const main = 'package main\n\nimport "example.org/part"\n\nfunc main() { part.Do() }\n';
  for (const patch of ['3', '4']) {
    await publishModule(proxy, 'example.org/part', `0.2.${patch}`, 'module example.org/part\n\ngo 1.24\n', {
      'part.go': 'package part\n\nfunc Do() {}\n',
    });
    const mod = `module ${MODULE}\n\ngo 1.24\n\nrequire example.org/part v0.0.0\n\nreplace example.org/part => ./staging/part\n`;
    await publishModule(proxy, MODULE, `1.2.${patch}`, mod, { 'cmd/one/main.go': main, 'cmd/two/main.go': main });
  }
});
afterAll(() => internet.close());
beforeEach(async () => {
  internet.served.clear();
  await rm(dir, { recursive: true, force: true });
});

const origin = (more: Partial<GoOrigin> = {}): GoOrigin => go(MODULE, 'cmd/one', { stagingVersion: 'v0.{minor}.{patch}', ...more });
function pin(version: string, one = origin(), more: Partial<PinRequest> = {}): Promise<PinResult> {
  const context = internet.context();
  context.cache.set('go', Promise.resolve(command));
  return pinVersion({ dir, extension: extensionOf([one]), version, licenses: { tool: 'MIT' }, ...more }, context);
}
const lockModule = (version: string): string => join(dir, 'go', `${MODULE}@v${version}`);

describe('a Go module (with the go of this host, 1.24 or newer)', () => {
  beforeEach(({ skip }) => skip(hostGo === undefined, 'there is no go 1.24 or newer on this host'));
  test('becomes a lock module, and its go.sum the pin', async () => {
    const { lines, written } = await pin('1.2.3');
    expect(written).toEqual([lockModule('1.2.3'), join(dir, 'pins.json')]);
    const sum = await readFile(join(lockModule('1.2.3'), 'go.sum'), 'utf8');
    expect(lines).toEqual([
      { locator: `go:${MODULE}@v1.2.3`, component: 'tool', sha256: sha(sum), proof: 'Go checksum database', change: 'new' },
    ]);
    const mod = await readFile(join(lockModule('1.2.3'), 'go.mod'), 'utf8');
    expect(mod).toMatch(/^tool example\.org\/tool\/cmd\/one$/m);
    // The folder of upstream's own replace became the module that is published of it.
    expect(mod).toMatch(/^replace example\.org\/part => example\.org\/part v0\.2\.3$/m);
  });
  test('is kept when nothing changed, and gets what another component needs', async () => {
    await pin('1.2.3');
    expect((await pin('1.2.3')).written).toEqual([]);
    const both = origin({ packages: ['cmd/one', 'cmd/two'] });
    expect((await pin('1.2.3', both)).written).toEqual([lockModule('1.2.3'), join(dir, 'pins.json')]);
    expect(await readFile(join(lockModule('1.2.3'), 'go.mod'), 'utf8')).toMatch(/cmd\/two/);
  });
  test('each version has its own', async () => {
    await pin('1.2.3');
    await pin('1.2.4');
    expect(await readdir(join(dir, 'go', 'example.org'))).toEqual(['tool@v1.2.3', 'tool@v1.2.4']);
    expect(Object.keys(readPins(await readFile(join(dir, 'pins.json'), 'utf8'), ''))).toEqual(['1.2.4', '1.2.3']);
  });
  test('is not written when the release beside it is wrong', async () => {
    const beside = upstream('https://example.org/tool-{arch}', { checksum: '{url}.sha256' });
    internet.served.set('example.org/tool-amd64.sha256', sha('a')).set('example.org/tool-amd64', 'b');
    const context = internet.context();
    context.cache.set('go', Promise.resolve(command));
    const request = { dir, extension: extensionOf([beside, origin()]), version: '1.2.3', licenses: { tool: 'MIT' } };
    await expect(pinVersion(request, context)).rejects.toThrow(/2 inputs could not be pinned/);
    await expect(readdir(dir)).rejects.toThrow(/ENOENT/);
  });
  test('a version that the proxy does not have', async () => {
    await expect(pin('9.9.9')).rejects.toThrow(/go failed/);
    await expect(readdir(dir)).rejects.toThrow(/ENOENT/);
  });
});
