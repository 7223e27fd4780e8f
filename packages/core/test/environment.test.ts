import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { cacheRoot, clockProblem, dropEmpty, envOf, homeOf, openGo, openStore, openTools, userGoEnv } from '@flatcar/core/engine';
import { expect, test } from 'vitest';
import { checkProxies, connectionAdvice } from '../src/http/proxy.ts';
import { compileSettings, registrySettings, userRegistry } from '../src/origins/cargo-config.ts';

test('an empty variable is an unset variable', () => {
  expect(envOf('A', { A: '' })).toBeUndefined();
  expect(envOf('A', {})).toBeUndefined();
  expect(envOf('A', { A: '0' })).toBe('0');
  const env = { A: '', B: 'b' };
  dropEmpty(env);
  expect(env).toEqual({ B: 'b' });
});

test("HOME that is unset, empty or relative is the user database's, never a folder inside the checkout", () => {
  const { homedir } = userInfo();
  for (const HOME of [undefined, '', 'home', '.']) {
    expect(homeOf({ HOME })).toBe(homedir);
    expect(cacheRoot({ HOME })).toBe(`${homedir}/.cache/flatcar-ext`);
    expect(cacheRoot({ HOME, XDG_CACHE_HOME: '', FLATCAR_EXT_CACHE: '' })).toBe(`${homedir}/.cache/flatcar-ext`);
  }
  expect(cacheRoot({ HOME: '/home/somebody' })).toBe('/home/somebody/.cache/flatcar-ext');
  expect(cacheRoot({ HOME: '/home/somebody', XDG_CACHE_HOME: 'relative' })).toBe('/home/somebody/.cache/flatcar-ext');
  expect(cacheRoot({ HOME: '/home/somebody', XDG_CACHE_HOME: '/var/cache' })).toBe('/var/cache/flatcar-ext');
  expect(cacheRoot({ FLATCAR_EXT_CACHE: 'mine' })).toBe(resolve('mine'));
});

test("under sudo the store is root's own, unless it is named", ({ skip }) => {
  if (process.geteuid?.() !== 0) return skip('skipped: only root can play sudo');
  const env = { HOME: '/home/somebody', XDG_CACHE_HOME: '/home/somebody/.cache', SUDO_UID: '1000' };
  expect(cacheRoot(env)).toBe(`${userInfo().homedir}/.cache/flatcar-ext`);
  expect(cacheRoot({ ...env, FLATCAR_EXT_CACHE: '/srv/store' })).toBe('/srv/store');
  expect(cacheRoot({ ...env, SUDO_UID: '0' })).toBe('/home/somebody/.cache/flatcar-ext');
});

test.for([':', ';', '%', '\n', '\r'])('a store whose path contains %j is refused before a tool fails on it', (character) => {
  expect(() => cacheRoot({ FLATCAR_EXT_CACHE: `/srv/a${character}b` })).toThrow(/the path of the store must not contain/);
});

test("settings of the user's Go do not reach the pinned one, but for how modules are fetched", async () => {
  const broken = {
    GOROOT: '/usr/lib/go-1.11',
    GOFLAGS: '-nonsense',
    GOPATH: 'relative',
    GOOS: 'plan9',
    GOTOOLCHAIN: 'go9.9.9',
    GOEXPERIMENT: 'nope',
    GODEBUG: 'x=y',
    GOWORK: '/missing/go.work',
    GOBIN: 'relative',
    GOMODCACHE: 'relative',
  };
  const given = userGoEnv({ ...broken, GOPROXY: 'https://proxy.example', GOPRIVATE: '' });
  expect(given).toMatchObject({ GOPROXY: 'https://proxy.example', GOTOOLCHAIN: 'local', GOFLAGS: '-modcacherw', GOWORK: 'off' });
  for (const name of ['GOROOT', 'GOPATH', 'GOOS', 'GOEXPERIMENT', 'GODEBUG', 'GOBIN', 'GOMODCACHE', 'GOPRIVATE'])
    expect(given).not.toHaveProperty(name);
  // The Go that is asked for these settings gets them, and nothing else of the user's.
  const dir = await mkdtemp(join(tmpdir(), 'go-'));
  const go = join(dir, 'go');
  await writeFile(go, `#!/bin/sh\nenv >${join(dir, 'env')}\nexit 1\n`, { mode: 0o755 });
  const before = Object.fromEntries(Object.keys(broken).map((name) => [name, process.env[name]]));
  Object.assign(process.env, broken);
  try {
    const store = openStore(join(dir, 'store'));
    await expect(openGo(store, Object.assign(openTools(store), { bootstrapGo: async () => go }), () => undefined)).rejects.toThrow(
      /go failed/,
    );
    const seen = await readFile(join(dir, 'env'), 'utf8');
    expect(seen).toMatch(/^GOTOOLCHAIN=local$/m);
    expect(seen).not.toMatch(/^(?:GOROOT|GOPATH|GOOS|GOEXPERIMENT|GODEBUG|GOBIN|GOMODCACHE)=|nonsense|missing/m);
  } finally {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    await rm(dir, { recursive: true });
  }
});

test("of the user's cargo settings those of the registry count, and what would change bytes is refused by name", async () => {
  const text = `# mine
net.offline = false
[source.crates-io]
replace-with = "mirror"
[source.mirror]
registry = "sparse+https://mirror.example/"
[build]
jobs = 2
rustflags = ["-Ctarget-cpu=native"]
[target.x86_64-unknown-linux-gnu]
linker = "clang"
[profile.release]
opt-level = 0
[http]
cainfo = "/etc/ca.pem"
`;
  const kept = registrySettings(text);
  for (const line of ['offline = false', 'replace-with', 'sparse+https', 'cainfo']) expect(kept).toContain(line);
  for (const line of ['jobs', 'rustflags', 'linker', 'opt-level']) expect(kept).not.toContain(line);
  expect(compileSettings(text)).toEqual(['build', 'target', 'profile']);
  expect(compileSettings(kept)).toEqual([]);

  const dir = await mkdtemp(join(tmpdir(), 'cargo-'));
  try {
    await mkdir(join(dir, 'home/.cargo'), { recursive: true });
    await writeFile(join(dir, 'home/.cargo/config.toml'), text);
    await expect(userRegistry(join(dir, 'home/.cache/store/cargo'))).rejects.toThrow(
      /\[build\], \[target\], \[profile\] of this file would change/,
    );
    await writeFile(join(dir, 'home/.cargo/config.toml'), kept);
    await userRegistry(join(dir, 'home/.cache/store/cargo'));
  } finally {
    await rm(dir, { recursive: true });
  }
});

test('a host that cannot be reached is told with the setting that has to do with it', () => {
  const proxied = { https_proxy: 'http://user:secret@proxy.example:3128', HTTP_PROXY: 'http://other.example' };
  expect(connectionAdvice('https://a.example/x', new Error('refused'), proxied)).toMatch(
    /proxy in https_proxy \(http:\/\/proxy\.example:3128\)/,
  );
  expect(connectionAdvice('http://a.example/x', new Error('refused'), proxied)).toMatch(/HTTP_PROXY/);
  expect(connectionAdvice('http://a.example/x', new Error('refused'), { http_proxy: '' })).toMatch(/check the network/);
  const early = Object.assign(new Error('x'), { code: 'CERT_NOT_YET_VALID' });
  expect(connectionAdvice('https://a.example/x', new Error('outer', { cause: early }), {})).toMatch(/this machine's clock reads \d{4}-/);
  const unknown = Object.assign(new Error('x'), { code: 'SELF_SIGNED_CERT_IN_CHAIN' });
  expect(connectionAdvice('https://a.example/x', unknown, {})).toMatch(/NODE_EXTRA_CA_CERTS/);
  expect(() => checkProxies({ HTTPS_PROXY: 'proxy.example:3128' })).toThrow(/HTTPS_PROXY is not the URL of an HTTP proxy/);
  expect(() => checkProxies({ http_proxy: 'socks5://proxy.example' })).toThrow(/http_proxy/);
  expect(() => checkProxies({ http_proxy: '', https_proxy: 'http://proxy.example:3128' })).not.toThrow();
});

test('a signature of the future is told as a matter of clocks', () => {
  const now = new Date('2010-01-01T00:00:00Z');
  expect(clockProblem(new Date('2026-11-27T00:00:00Z'), now)).toMatch(/signed at 2026-11-27T[^]*clock reads 2010-01-01T/);
  expect(clockProblem(new Date('2010-01-01T00:10:00Z'), now)).toBeUndefined();
  expect(clockProblem(new Date('2001-01-01T00:00:00Z'), now)).toBeUndefined();
  expect(clockProblem(undefined, now)).toBeUndefined();
});
