import { join } from 'node:path';
import type { UpstreamContext } from '@flatcar/upstream';
import { goWithProxy, hostGo, publishModule } from '@flatcar/core/test/fake-go-proxy';
import { openFakeInternet, type FakeInternet } from '@flatcar/upstream/test/fake-internet';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { inspectGo, oneLine } from '../src/new/inspect-source.ts';

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

test.each([
  ['A tool. It is fast.', 'A tool'],
  ['A tool\nfor lines\n\nMore about it', 'A tool for lines'],
  ['  v1.2 of a tool. ', 'v1.2 of a tool'],
])('the summary of %j is %j', (text, summary) => {
  expect(oneLine(text)).toBe(summary);
});
