import { execFileSync } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { UpstreamContext } from '@flatcar/upstream';
import { goWithProxy, hostGo, publishModule } from '@flatcar/core/test/fake-go-proxy';
import { openFakeInternet, sha, type FakeInternet } from '@flatcar/upstream/test/fake-internet';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { inspectCargo, inspectGo, oneLine } from '../src/new/inspect-source.ts';

const MIT = 'Permission is hereby granted, free of charge, to any person obtaining a copy of this software';
const MAIN = 'package main\n\nfunc main() {}\n';
const MODULE = 'example.org/tool';

let internet: FakeInternet;
let proxy: string;
beforeAll(async () => {
  internet = await openFakeInternet();
  proxy = join(internet.dir, 'proxy');
});
afterAll(() => internet.close());

function context(): UpstreamContext {
  const run = internet.context();
  run.cache.set('go', Promise.resolve(goWithProxy(proxy, internet.dir)));
  return run;
}

describe.skipIf(hostGo === undefined)('the source of a Go module (with the go of this host, 1.24 or newer)', () => {
  test('has its main packages in the usual places, the stamps of its own build, and its license', async () => {
    await publishModule(proxy, MODULE, '1.2.3', `module ${MODULE}\n\ngo 1.24\n`, {
      'tool.go': 'package tool\n',
      'cmd/one/main.go': MAIN,
      'cmd/two/two_test.go': MAIN,
      'cmd/three/main.go': `//go:build ignore\n\n${MAIN}`,
      'internal/main.go': MAIN,
      LICENSE: MIT,
      Makefile: 'PKG := example.org/tool/version\nbuild:\n\tgo build -ldflags "-X $(PKG).Version=$(VERSION) -X $(PKG).Commit=$(COMMIT)"\n',
      '.goreleaser.yml': 'builds:\n  - ldflags:\n      - -s -X main.tag=v{{ .Version }} -X main.date={{ .Date }}\n',
    });
    expect(await inspectGo(MODULE, '1.2.3', context())).toEqual({
      packages: ['cmd/one'],
      programs: ['one'],
      stamps: { 'example.org/tool/version.Version': '{version}', 'main.tag': 'v{version}' },
      license: 'MIT',
    });
  });
  test('may be a program itself, with two licenses of which none is the only one', async () => {
    await publishModule(proxy, `${MODULE}/v2`, '2.0.0', `module ${MODULE}/v2\n\ngo 1.24\n`, {
      'main.go': MAIN,
      'LICENSE-MIT': MIT,
      'LICENSE-APACHE': 'Apache License\nVersion 2.0',
    });
    const found = await inspectGo(`${MODULE}/v2`, '2.0.0', context());
    expect(found).toMatchObject({ packages: ['.'], programs: ['tool'], stamps: {} });
    expect(found.license).toBeUndefined();
  });
  test('that needs a newer compiler is refused with both versions', async () => {
    await publishModule(proxy, 'example.org/new', '1.0.0', 'module example.org/new\n\ngo 9.99\n', { 'main.go': MAIN });
    await expect(inspectGo('example.org/new', '1.0.0', context())).rejects.toMatchObject({
      message: 'example.org/new 1.0.0 needs Go 9.99, but the pinned compiler is host',
      next: 'pass an older --version, or pin a newer compiler',
    });
  });
  test('that the proxy does not have is an error', async () => {
    await expect(inspectGo('example.org/absent', '1.0.0', context())).rejects.toThrow(/example\.org\/absent/);
  });
});

/** Serves a crate as a registry with a sparse index does (doc.rust-lang.org/cargo/reference/registry-index.html). */
async function serveCrate(name: string, version: string, files: Readonly<Record<string, string>>): Promise<void> {
  const folder = `${name}-${version}`;
  const work = join(internet.dir, 'crates');
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(work, folder, path)), { recursive: true });
    await writeFile(join(work, folder, path), text);
  }
  const file = join(work, `${folder}.crate`);
  execFileSync('tar', ['-czf', file, '-C', work, folder]);
  const crate = await readFile(file);
  internet.served
    .set('index/config.json', JSON.stringify({ dl: `${internet.mirror}/crates/{crate}/{version}` }))
    .set(
      `index/${name.slice(0, 2)}/${name.slice(2, 4)}/${name}`,
      `${JSON.stringify({ name, vers: version, deps: [], cksum: sha(crate), features: {}, yanked: false })}\n`,
    )
    .set(`crates/${name}/${version}`, crate);
}
const packageOf = (name: string, version: string): string => `[package]\nname = "${name}"\nversion = "${version}"\nedition = "2021"\n`;
const RUST_MAIN = 'fn main() {}\n';

describe('the source of a crate (with the pinned cargo, and a registry of this test)', () => {
  beforeAll(async () => {
    const home = join(internet.dir, 'cargo-home');
    await mkdir(home);
    const registry = `[source.local]\nregistry = "sparse+${internet.mirror}/index/"\n`;
    await writeFile(join(home, 'config.toml'), `[source.crates-io]\nreplace-with = "local"\n${registry}`);
    vi.stubEnv('CARGO_HOME', home);
    for (const name of ['no_proxy', 'NO_PROXY']) vi.stubEnv(name, '127.0.0.1');
  });
  afterAll(() => void vi.unstubAllEnvs());

  test('has its programs, named or not, its license and its summary', async () => {
    const about = `license = "MIT/Apache-2.0"\ndescription = "Several tools\\nin one crate. They are fast."\n`;
    await serveCrate('several', '1.2.3', {
      'Cargo.toml': `${packageOf('several', '1.2.3')}${about}[[bin]]\nname = "first"\npath = "src/main.rs"\n`,
      'src/main.rs': RUST_MAIN,
      'src/lib.rs': '',
      'src/bin/second.rs': RUST_MAIN,
      'examples/third.rs': RUST_MAIN,
    });
    expect(await inspectCargo('several', '1.2.3', internet.context())).toEqual({
      programs: ['first', 'second'],
      packages: [],
      stamps: {},
      license: 'MIT OR Apache-2.0',
      summary: 'Several tools in one crate',
    });
  });
  test('without a program is refused; a license and a description may be missing', async () => {
    await serveCrate('library', '0.1.0', { 'Cargo.toml': packageOf('library', '0.1.0'), 'src/lib.rs': '' });
    await expect(inspectCargo('library', '0.1.0', internet.context())).rejects.toThrow('the crate library has no programs');
    await serveCrate('plain', '0.1.0', { 'Cargo.toml': packageOf('plain', '0.1.0'), 'src/main.rs': RUST_MAIN });
    const found = await inspectCargo('plain', '0.1.0', internet.context());
    expect([found.programs, found.license, found.summary]).toEqual([['plain'], undefined, undefined]);
  });
  test('that the registry does not have, or not in this version, is an error that says which', async () => {
    await expect(inspectCargo('absent', '1.0.0', internet.context())).rejects.toThrow('the crates registry has no absent 1.0.0');
    await serveCrate('tool', '1.0.0', { 'Cargo.toml': packageOf('tool', '1.0.0'), 'src/main.rs': RUST_MAIN });
    await expect(inspectCargo('tool', '9.9.9', internet.context())).rejects.toThrow('the crates registry has no tool 9.9.9');
  });
  test('whose registry cannot be reached is an error of the network, and not a missing crate', async () => {
    const elsewhere = await openFakeInternet();
    await writeFile(
      join(internet.dir, 'cargo-home/config.toml'),
      `[source.crates-io]\nreplace-with = "local"\n[source.local]\nregistry = "sparse+http://127.0.0.1:9/"\n[net]\nretry = 0\n`,
    );
    try {
      await expect(inspectCargo('tool', '1.0.0', elsewhere.context())).rejects.toMatchObject({ code: 'unreachable' });
    } finally {
      await elsewhere.close();
    }
  });
});

test.each([
  ['A tool. It is fast.', 'A tool'],
  ['A tool\nfor lines\n\nMore about it', 'A tool for lines'],
  ['  v1.2 of a tool. ', 'v1.2 of a tool'],
])('the summary of %j is %j', (text, summary) => {
  expect(oneLine(text)).toBe(summary);
});
