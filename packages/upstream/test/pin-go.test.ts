import { execFileSync } from 'node:child_process';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { exec, go, readPins, upstream, type ExecOptions, type GoCommand, type GoOrigin } from '@flatcar/core/engine';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { pinVersion, type PinRequest, type PinResult } from '../src/pin/pin.ts';
import { extensionOf, openFakeInternet, sha, type FakeInternet } from './fake-internet.ts';

const MODULE = 'example.org/tool';
let internet: FakeInternet;
let dir: string;
let proxy: string;
let command: GoCommand;

/** The go on PATH, if it knows `tool` lines (1.24). */
const hostGo = ((): string | undefined => {
  try {
    const [, minor = '0'] = /go1\.(\d+)/.exec(execFileSync('go', ['version'], { encoding: 'utf8' })) ?? [];
    return Number(minor) >= 24 ? 'go' : undefined;
  } catch {
    return undefined;
  }
})();

/** A zip archive of uncompressed files (APPNOTE 4.3), as the module proxy serves modules. */
function zip(files: Readonly<Record<string, string>>): Buffer {
  const local: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  for (const [name, text] of Object.entries(files)) {
    const [path, data] = [Buffer.from(name), Buffer.from(text)];
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt32LE(crc32(data), 10);
    common.writeUInt32LE(data.length, 14);
    common.writeUInt32LE(data.length, 18);
    common.writeUInt16LE(path.length, 22);
    const entry = Buffer.concat([Buffer.from('PK\x03\x04'), common, path, data]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    central.push(Buffer.concat([Buffer.from('PK\x01\x02\x14\x00'), common, tail, path]));
    local.push(entry);
    offset += entry.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(central.length, 4);
  end.writeUInt16LE(central.length, 6);
  end.writeUInt32LE(directory.length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...local, directory, Buffer.from('PK\x05\x06'), end]);
}

/** Puts a module into the proxy. */
async function publish(module: string, version: string, mod: string, files: Readonly<Record<string, string>>): Promise<void> {
  const folder = join(proxy, module, '@v');
  await mkdir(folder, { recursive: true });
  const known = await readFile(join(folder, 'list'), 'utf8').catch(() => '');
  await writeFile(join(folder, 'list'), `${known}v${version}\n`);
  await writeFile(join(folder, `v${version}.info`), JSON.stringify({ Version: `v${version}`, Time: '2026-01-01T00:00:00Z' }));
  await writeFile(join(folder, `v${version}.mod`), mod);
  const all = { 'go.mod': mod, ...files };
  await writeFile(join(folder, `v${version}.zip`), zip(Object.fromEntries(Object.entries(all).map(([path, text]) => [`${module}@v${version}/${path}`, text])))); // prettier-ignore
}

beforeAll(async () => {
  internet = await openFakeInternet();
  dir = join(internet.dir, 'tool');
  proxy = join(internet.dir, 'proxy');
  const env = { GOENV: 'off', GOTOOLCHAIN: 'local', GOMODCACHE: join(internet.dir, 'mod'), GOCACHE: join(internet.dir, 'build'), GOPATH: internet.dir, GOSUMDB: 'off', GOFLAGS: '-mod=readonly -modcacherw' }; // prettier-ignore
  const run = (proxies: string) => (args: readonly string[], options: ExecOptions = {}) => exec('go', args, { ...options, env: { ...env, GOPROXY: proxies, ...options.env } }); // prettier-ignore
  command = {
    record: { name: 'go', version: 'host', sha256: '', status: 'host' },
    online: run(`file://${proxy}`),
    offline: run('off'),
    build: () => Promise.reject(new Error('nothing is compiled here')),
  };
  const main = 'package main\n\nimport "example.org/part"\n\nfunc main() { part.Do() }\n';
  for (const patch of ['3', '4']) {
    await publish('example.org/part', `0.2.${patch}`, 'module example.org/part\n\ngo 1.24\n', {
      'part.go': 'package part\n\nfunc Do() {}\n',
    });
    const mod = `module ${MODULE}\n\ngo 1.24\n\nrequire example.org/part v0.0.0\n\nreplace example.org/part => ./staging/part\n`;
    await publish(MODULE, `1.2.${patch}`, mod, { 'cmd/one/main.go': main, 'cmd/two/main.go': main });
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
  test('stays when nothing changed, and gets what another component needs', async () => {
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
