// Components that are programs of one Go module: compiled by one call of go, with the bytes that each has by itself.
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { binary, go, upstream } from '../src/definition/builders.ts';
import { readPins } from '../src/definition/pins.ts';
import type { Component, GoOrigin, PinnedComponent } from '../src/definition/types.ts';
import { hostArch } from '../src/model/arch.ts';
import type { OriginChoice } from '../src/model/payload.ts';
import { resolveComponents, type ResolvedComponent } from '../src/origins/resolve.ts';
import { openStore } from '../src/store/store.ts';
import { openGo } from '../src/tools/go-command.ts';
import { lockModuleDir, pinGo } from '../src/tools/go-module.ts';
import { openSandbox } from '../src/tools/sandbox.ts';
import { installedRecords } from '../src/tools/tool-records.ts';
import { openToolchains } from '../src/tools/toolchains.ts';
import { openTools } from '../src/tools/tools.ts';
import { exec } from '../src/util/exec.ts';
import type { Event } from '../src/util/events.ts';
import { publishModule } from './helpers/fake-go-proxy.ts';

const MODULE = 'example.org/tool';
const PACKAGES = ['cmd/one', 'cmd/two', 'cmd/tagged', 'other/one', 'cmd/broken', 'cmd/long'];
const store = openStore();
const tools = openTools(store);
const toolchains = openToolchains(store);

/** A program that prints its name, its stamp and the word of a package that all of them share. */
const main = (name: string): string =>
  `package main\n\nimport (\n\t"os"\n\n\t"${MODULE}/shared"\n)\n\nvar version = "none"\n\nfunc main() { os.Stdout.WriteString("${name} " + version + " " + shared.Word) }\n`;

/** Packages that take as long to compile as the compiler needs to report an error in another one. */
const MANY = Array.from({ length: 60 }, (_, index) => `p${index}`);
const parts = Object.fromEntries(MANY.map((name) => [`part/${name}/part.go`, `package ${name}\n\nfunc Do() {}\n`]));
const long = `package main\n\nimport (\n${MANY.map((name) => `\t"${MODULE}/part/${name}"\n`).join('')})\n\nfunc main() {\n${MANY.map((name) => `\t${name}.Do()\n`).join('')}}\n`;

let dir: string;
let pin: PinnedComponent['pin'];
let events: Event[];

beforeAll(async () => {
  await openGo(store, tools, () => undefined); // fetched from the real proxy, if the store does not have it
  dir = await mkdtemp(join(tmpdir(), 'go-together-'));
  const proxy = join(dir, 'proxy');
  for (const [name, value] of Object.entries({ GOPROXY: `file://${proxy}`, GOSUMDB: 'off', GONOSUMDB: '*' })) vi.stubEnv(name, value);
  await publishModule(proxy, MODULE, '1.0.0', `module ${MODULE}\n\ngo 1.24\n`, {
    'shared/shared.go': 'package shared\n\nconst Word = "shared"\n',
    'cmd/one/main.go': main('one'),
    'cmd/two/main.go': main('two'),
    'other/one/main.go': main('other one'),
    'cmd/tagged/main.go': main('tagged'),
    'cmd/tagged/special.go': '//go:build special\n\npackage main\n\nfunc init() { version = "special" }\n',
    'bad/bad.go': 'package bad\n\nfunc Do() { undefined() }\n',
    'cmd/broken/main.go': `package main\n\nimport "${MODULE}/bad"\n\nfunc main() { bad.Do() }\n`,
    ...parts,
    'cmd/long/main.go': long,
  });
  const lock = lockModuleDir(dir, MODULE, '1.0.0');
  await pinGo(await openGo(store, tools, () => undefined), lock, MODULE, '1.0.0', PACKAGES, () => undefined);
  const sha256 = createHash('sha256')
    .update(await readFile(join(lock, 'go.sum')))
    .digest('hex');
  const bytes = Object.fromEntries(
    ['go:example.org/tool@v1.0.0', 'https://example.org/one', 'https://example.org/two'].map((name) => [
      name,
      { sha256, proof: 'nothing published: as first downloaded' },
    ]),
  );
  pin = readPins(JSON.stringify({ '1.0.0': { licenses: {}, bytes } }), 'pins.json')['1.0.0'] as PinnedComponent['pin'];
}, 600_000);
afterEach(forget);
afterAll(async () => {
  vi.unstubAllEnvs();
  await rm(dir, { recursive: true, force: true });
});

/** Results of the tests before: the store is that of all unit tests. */
let made: ResolvedComponent[] = [];
async function forget(): Promise<void> {
  for (const { result } of made) await rm(`${dirname(result.dir)}.list`, { force: true });
  made = [];
}

const tool = (name: string, path = `cmd/${name}`, more: Partial<GoOrigin> = {}): Component => binary(name, '1.0.0', go(MODULE, path, more));

async function build(
  components: readonly Component[],
  { choice = 'source', signal, onEvent }: { choice?: OriginChoice; signal?: AbortSignal; onEvent?: (event: Event) => void } = {},
): Promise<ResolvedComponent[]> {
  events = [];
  const report = (event: Event): void => {
    events.push(event);
    onEvent?.(event);
  };
  const context = { arch: hostArch(), store, tools, toolchains, records: installedRecords(tools, toolchains), report, signal };
  const resolved = await resolveComponents(
    components.map((component) => ({ component, dir, pin })),
    { ...context, sandbox: openSandbox(store, tools), mirror: 'http://127.0.0.1:1' },
    choice,
  );
  made.push(...resolved);
  return resolved;
}
/** The steps of compilers, without their times and versions. */
const compiles = (): string[] =>
  events.flatMap((event) => (event.type === 'step' && event.text.startsWith('compiling ') ? [event.text.replace(/ 1\.0\.0 .*$/, '')] : []));
const fileOf = ({ result, component }: ResolvedComponent): string => join(result.dir, component.name);
const bytesOf = (resolved: readonly ResolvedComponent[]): Promise<Buffer[]> => Promise.all(resolved.map((one) => readFile(fileOf(one))));

test('programs of one module are compiled by one call of go, with the bytes and the keys that each has by itself', async () => {
  const together = await build([tool('one'), tool('two')]);
  expect(compiles()).toEqual(['compiling one and two']);
  const bytes = await bytesOf(together);
  expect(await Promise.all(together.map((one) => exec(fileOf(one), [])))).toEqual(['one none shared', 'two none shared']);
  expect(await Promise.all(together.map(({ result }) => readdir(result.dir)))).toEqual([['one'], ['two']]);

  await forget();
  const alone = [...(await build([tool('one')])), ...(await build([tool('two')]))];
  expect(compiles()).toEqual(['compiling two']);
  expect((await bytesOf(alone)).map((file, index) => file.equals(bytes[index] ?? Buffer.alloc(0)))).toEqual([true, true]);
  expect(alone.map(({ result }) => result)).toEqual(together.map(({ result }) => result));
});

test('a program that the store has is not compiled again', async () => {
  await build([tool('two')]);
  await build([tool('one'), tool('two')]);
  expect(compiles()).toEqual(['compiling one']);
  await build([tool('two'), tool('one')]);
  expect(compiles()).toEqual([]);
});

test('programs that fall back to their source together are compiled together', async () => {
  const both = ['one', 'two'].map((name) => binary(name, '1.0.0', upstream(`https://example.org/${name}`), go(MODULE, `cmd/${name}`)));
  const resolved = await build(both, { choice: 'auto' });
  expect(compiles()).toEqual(['compiling one and two']);
  expect(resolved.map(({ preferred }) => preferred)).toEqual([false, false]);
});

test('other stamps and other tags are compiled apart', async () => {
  const stamps = { 'main.version': 'v{version}' };
  const wanted = [tool('one'), tool('two', 'cmd/two', { stamps }), tool('tagged', 'cmd/tagged', { tags: ['special'] })];
  const resolved = await build(wanted);
  expect(compiles().toSorted()).toEqual(['compiling one', 'compiling tagged', 'compiling two']);
  const output = await Promise.all(resolved.map((one) => exec(fileOf(one), [])));
  expect(output).toEqual(['one none shared', 'two v1.0.0 shared', 'tagged special shared']);
});

test('programs of one name in different packages, and one package under two names, each come out right', async () => {
  const rename = { 'other/one': 'other' };
  const wanted = [tool('one'), tool('other', 'other/one', { rename }), tool('again', 'cmd/one', { rename: { 'cmd/one': 'again' } })];
  const resolved = await build(wanted);
  const output = await Promise.all(resolved.map((one) => exec(fileOf(one), [])));
  expect(output).toEqual(['one none shared', 'other one none shared', 'one none shared']);
});

test('a package that does not compile is named, however many others are compiled after it', async () => {
  const failure = await build([tool('broken'), tool('long')]).catch((error: unknown) => error as Error);
  expect(failure).toMatchObject({ message: expect.stringContaining('example.org/tool/bad') as string });
  expect((failure as Error).message).toMatch(/bad\.go:3:\d+: undefined: undefined/);
  expect((failure as Error).message).not.toContain('part/p');
  expect(events).toContainEqual(expect.objectContaining({ type: 'compile', unit: 'packages' }));
});

test('the progress of the compiler counts the packages of all programs', async () => {
  await build([tool('long'), tool('one')]);
  const counted = events.flatMap((event) => (event.type === 'compile' ? [event] : []));
  // The programs themselves, the parts of one and what the other imports; not Go's library, which is compiled already.
  const total = MANY.length + 3;
  expect(counted.at(-1)).toMatchObject({ what: 'long and one', done: total, total, unit: 'packages' });
  expect(new Set(counted.map(({ line }) => line)).size).toBe(total);
  expect(counted.map(({ done }) => done)).toEqual(Array.from({ length: total }, (_, index) => index + 1));
});

test('an interrupted compile leaves nothing', async () => {
  const temp = async (): Promise<string[]> =>
    (await readdir(join(store.root, 'temp')).catch(() => [])).filter((name) => name.startsWith(`${process.pid}-`)).toSorted();
  const before = await temp();
  const controller = new AbortController();
  const onEvent = (event: Event): void => {
    if (event.type === 'compile') controller.abort(new Error('stop'));
  };
  await expect(build([tool('long'), tool('one')], { signal: controller.signal, onEvent })).rejects.toThrow('stop');
  expect(await temp()).toEqual(before);
  await build([tool('one')]);
  expect(compiles()).toEqual(['compiling one']);
});
