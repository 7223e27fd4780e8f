// Builds of an extension whose sources attack the machine that compiles them: what they reach with and without the sandbox.
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  binary,
  buildExtension,
  cargo,
  defineExtension,
  exec,
  hostArch,
  openStore,
  openToolchains,
  openTools,
  readPins,
  type BuildResult,
  type Report,
} from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';

const store = openStore();
const mark = `mark${process.pid}`;
const extension = defineExtension({
  name: 'evil',
  summary: 'a crate whose build script attacks',
  versions: { kind: 'date', track: 'newest' },
  components: () => [binary('evil', '1.0.0', cargo('./evil', ['evil']))],
});
const PINS = '{ "2026.11.27": { "licenses": { "evil": "Apache-2.0" }, "bytes": {} } }';

let dir: string;
let server: Server;
let secret: string;

/** What the build script tries; each line that it prints says what worked. */
const script = (port: number): string => `
use std::{env, fs, io::Write, net::TcpStream, process::Command};
fn tell(what: &str, worked: bool) { if worked { println!("cargo::warning=WORKED {what}"); } }
fn write(path: &str) -> bool { fs::File::create(path).and_then(|mut file| file.write_all(b"evil")).is_ok() }
fn main() {
    tell("network", TcpStream::connect("127.0.0.1:${port}").is_ok());
    tell("home", fs::read_to_string("${secret}").is_ok());
    tell("environment", env::vars().any(|(_, value)| value.contains("${mark}")));
    let others = fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        fs::read(entry.path().join("environ")).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains("SECRET=${mark}"))
    });
    tell("other processes", others);
    tell("store", write("${join(store.root, 'results', mark)}"));
    tell("repository", write("${join(import.meta.dirname, mark)}"));
    tell("home folder", write("${join(dir, mark)}"));
    let late = format!("sleep 2; echo late >{}/late; echo late >${dir}/late", env::var("OUT_DIR").unwrap());
    let started = Command::new("setsid").args(["sh", "-c", &late]).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn();
    tell("a process", started.is_ok());
}
`;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'evil-'));
  secret = join(dir, 'id_test');
  await writeFile(secret, 'key', { mode: 0o600 });
  server = createServer((socket) => socket.end());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const crate = join(dir, 'extension/evil');
  for (const folder of ['src', '.cargo']) await mkdir(join(crate, folder), { recursive: true });
  const wrapper = `#!/bin/sh\necho wrapped >${dir}/wrapped\nexec "$@"\n`;
  await writeFile(join(crate, 'wrapper'), wrapper, { mode: 0o755 });
  const files = {
    'Cargo.toml': '[package]\nname = "evil"\nversion = "1.0.0"\nedition = "2021"\n',
    'Cargo.lock': 'version = 4\n\n[[package]]\nname = "evil"\nversion = "1.0.0"\n',
    'build.rs': script((server.address() as AddressInfo).port),
    'src/main.rs': 'fn main() { println!("built"); }\n',
    '.cargo/config.toml': '[build]\nrustc-wrapper = "./wrapper"\n',
  };
  for (const [name, text] of Object.entries(files)) await writeFile(join(crate, name), text);
});
afterAll(async () => {
  server.close();
  await rm(dir, { recursive: true, force: true });
});

const made = (): string[] =>
  [join(store.root, 'results', mark), join(import.meta.dirname, mark), join(dir, mark), join(dir, 'late')].filter((path) =>
    existsSync(path),
  );

/** Temporary folders of this process: other tests use the same store. */
const ownTemp = async (): Promise<string[]> =>
  (await readdir(join(store.root, 'temp')).catch(() => [])).filter((name) => name.startsWith(`${process.pid}-`)).toSorted();

async function build(noSandbox: boolean): Promise<BuildResult & { worked: string[]; steps: string[] }> {
  const lines: string[] = [];
  const steps: string[] = [];
  const report: Report = (event) => {
    if (event.type === 'log') lines.push(event.line);
    if (event.type === 'step') steps.push(event.text);
    if (event.type === 'compile') steps.push(`${event.what}: crate ${event.done} of ${event.total}`);
  };
  const victim = exec('sleep', ['600'], { env: { SECRET: mark }, signal: stopVictim.signal });
  victim.catch(() => undefined);
  const result = await buildExtension(
    { dir: join(dir, 'extension'), extension, fixture: true, pins: readPins(PINS, 'pins.json') },
    {
      version: '2026.11.27',
      arch: hostArch(),
      targets: ['portable'],
      profile: 'fast',
      origin: 'source',
      out: join(dir, 'out'),
      store,
      tools: openTools(store),
      report,
      noSandbox,
    },
  );
  const worked = lines.flatMap((line) => /WORKED (.+)$/.exec(line)?.[1] ?? []).toSorted();
  return { ...result, worked, steps };
}
const stopVictim = new AbortController();
afterAll(() => stopVictim.abort());

test('a build script reaches nothing; without the sandbox it reaches all of it, and what is made so is withheld and never taken for the other', async () => {
  process.env['https_proxy'] = `http://${mark}@127.0.0.1:9`;
  try {
    const open = await build(true);
    expect(open.worked).toEqual(['a process', 'home', 'home folder', 'network', 'other processes', 'repository', 'store']);
    await sleep(3000);
    expect(made()).toHaveLength(4);
    expect(open.payloads[0]).toMatchObject({
      publishBlockers: expect.arrayContaining([expect.objectContaining({ code: 'unsandboxed' })]) as unknown,
    });
    expect(open.payloads[0]?.publishBlockers.map(({ what }) => what)).toContain('compiled without a sandbox (--no-sandbox)');
    for (const path of made()) await rm(path);
    await rm(join(dir, 'wrapped'), { force: true });

    const temp = await ownTemp();
    const closed = await build(false);
    expect(closed.steps).toContainEqual(expect.stringMatching(/^compiling evil 1\.0\.0 for .* with Rust: 1 crate$/));
    expect(closed.steps.filter((step) => step === 'evil: crate 1 of 1')).toHaveLength(1);
    expect(closed.worked).toEqual(['a process']);
    await sleep(3000);
    expect(made()).toEqual([]);
    expect(closed.payloads[0]?.publishBlockers.map(({ what }) => what)).not.toContain('compiled without a sandbox (--no-sandbox)');
    expect(closed.payloads[0]?.key).not.toBe(open.payloads[0]?.key);
    expect(existsSync(join(dir, 'wrapped'))).toBe(false);
    expect(await ownTemp()).toEqual(temp);
  } finally {
    delete process.env['https_proxy'];
  }
});

test("cargo would take a crate's own configuration in its folder, and so is never run there", async () => {
  const { bin } = await openToolchains(store).rust();
  const crate = join(dir, 'copy');
  await cp(join(dir, 'extension/evil'), crate, { recursive: true });
  const [at, elsewhere] = [{ cwd: crate }, { cwd: '/' }];
  const env = { CARGO_HOME: join(dir, 'cargo'), PATH: `${bin}:/usr/bin:/bin` };
  await exec(join(bin, 'cargo'), ['tree', '--offline', '--manifest-path', join(crate, 'Cargo.toml')], { ...elsewhere, env });
  expect(existsSync(join(dir, 'wrapped'))).toBe(false);
  await exec(join(bin, 'cargo'), ['tree', '--offline'], { ...at, env });
  expect(await readFile(join(dir, 'wrapped'), 'utf8')).toBe('wrapped\n');
});

test('an interrupted compile leaves no process and no temporary folder', async () => {
  const slow = join(dir, 'slow');
  await cp(join(dir, 'extension'), slow, { recursive: true });
  const started = `fn main() { println!("cargo::warning=STARTED"); std::process::Command::new("sh").args(["-c", "trap '' TERM INT; echo cargo::warning=STARTED; sleep 600; : slow${mark}"]).status().unwrap(); }\n`;
  await writeFile(join(slow, 'evil/build.rs'), started);
  const temp = await ownTemp();
  const tmp = join(dir, 'tmp');
  await mkdir(tmp);
  vi.stubEnv('TMPDIR', tmp); // of what runs outside of the sandbox
  const controller = new AbortController();
  const building = buildExtension(
    { dir: slow, extension, fixture: true, pins: readPins(PINS, 'pins.json') },
    {
      version: '2026.11.27',
      arch: hostArch(),
      targets: ['portable'],
      profile: 'fast',
      origin: 'source',
      out: join(dir, 'slow-out'),
      store,
      tools: openTools(store),
      report: () => undefined,
      signal: controller.signal,
    },
  );
  building.catch(() => undefined);
  const running = (): Promise<string> => exec('sh', ['-c', `ps ax | grep -v grep | grep '[:] slow${mark}' || true`]);
  while ((await running()) === '') await sleep(100);
  controller.abort(new Error('stop'));
  await expect(building).rejects.toThrow('stop');
  expect(await running()).toBe('');
  expect(await ownTemp()).toEqual(temp);
  vi.unstubAllEnvs();
  expect(await readdir(tmp)).toEqual([]);
});
