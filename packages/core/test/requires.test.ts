// An extension that requires another: a drop-in for its unit may run its programs, and everything that is made of it says so.
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { pathsBeside } from '../src/definition/beside.ts';
import { describePayload } from '../src/pipeline/describe.ts';
import { UserError, UserErrors } from '../src/util/errors.ts';
import { loadExtension } from '../src/definition/load.ts';
import { buildExtension } from '../src/pipeline/build.ts';
import { manifestOf } from '../src/sidecars/manifest.ts';
import { openStore } from '../src/store/store.ts';
import { openTools } from '../src/tools/tools.ts';
import type { Image } from '../src/model/image.ts';
import type { Payload } from '../src/model/payload.ts';

const repository = resolve(import.meta.dirname, '../../..');
const CORE = pathToFileURL(join(import.meta.dirname, '../src/engine.ts')).href;
const VERSION = '2026.11.24';
let root: string;

/** Writes an extension of own files only: a drop-in for node-exporter's unit. */
async function writeMetrics(name: string, requires: string, command: string): Promise<string> {
  const dir = join(root, 'extensions', name);
  const dropin = join(dir, 'files/usr/lib/systemd/system/node-exporter.service.d/10-metrics.conf');
  await mkdir(dirname(dropin), { recursive: true });
  await writeFile(dropin, `[Service]\nExecStart=\nExecStart=${command} --collector.textfile.directory=/run/metrics\n`);
  await writeFile(
    join(dir, 'extension.ts'),
    `import { defineExtension } from '${CORE}';
export default defineExtension({
  name: '${name}',
  summary: 'metrics of this system',
  versions: { kind: 'date', track: 'newest' },
  components: () => [],
  requires: [${requires}],
});
`,
  );
  await writeFile(join(dir, 'pins.json'), JSON.stringify({ [VERSION]: { licenses: {}, bytes: {} } }));
  return dir;
}

async function build(dir: string): Promise<Payload> {
  const store = openStore();
  const { payloads } = await buildExtension(await loadExtension(dir), {
    version: VERSION,
    arch: 'x86-64',
    targets: ['portable'],
    payloadsOnly: true,
    profile: 'fast',
    origin: 'auto',
    out: join(root, 'out'),
    store,
    tools: openTools(store),
    report: () => undefined,
  });
  const [payload] = payloads;
  if (payload === undefined) throw new Error('no payload was made');
  return payload;
}
const errorsOf = async (work: Promise<unknown>): Promise<string> => {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error === undefined) return '';
  if (!(error instanceof UserError)) throw error;
  return [error, ...(error instanceof UserErrors ? error.errors : [])].map(({ message, next }) => `${message}\n${next ?? ''}`).join('\n');
};

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'requires-'));
  for (const name of ['node-exporter', 'btop'])
    await cp(join(repository, 'extensions', name), join(root, 'extensions', name), {
      recursive: true,
      filter: (path) => !/\/(?:node_modules|dist|\.turbo)$/.test(path),
    });
  // Its imports are found from where it lies.
  await mkdir(join(root, 'node_modules/@flatcar'), { recursive: true });
  await symlink(join(repository, 'packages/core'), join(root, 'node_modules/@flatcar/core'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

test('what others bring is known without building them: programs, units and packages', async () => {
  const paths = await pathsBeside(join(repository, 'extensions'), ['node-exporter', 'btop', 'containerd', 'sssd']);
  for (const path of [
    '/usr/bin/node_exporter',
    '/usr/lib/systemd/system/node-exporter.service',
    '/usr/bin/btop',
    '/usr/bin/ctr',
    '/usr/lib/systemd/system/containerd.service',
    '/usr/bin/sssctl',
  ])
    expect(paths, path).toContain(path);
  expect(paths).not.toContain('/usr/bin/tool');
});

test('a drop-in that runs a program of another extension is refused, and allowed where that is required', async () => {
  const alone = await errorsOf(build(await writeMetrics('alone', '', '/usr/bin/node_exporter')));
  expect(alone).toContain("ExecStart= runs '/usr/bin/node_exporter'");
  expect(alone).toMatch(/list the extension that ships the program under 'requires'/);
  const payload = await build(await writeMetrics('metrics', "'node-exporter'", '/usr/bin/node_exporter'));
  expect(payload.requires).toEqual(['node-exporter']);
  // Nothing else is allowed by it.
  expect(await errorsOf(build(await writeMetrics('wrong', "'node-exporter'", '/usr/bin/node_expoter')))).toContain('node_expoter');
});

test('the record and the manifest say it, and it changes no byte', async () => {
  const request = { version: VERSION, arch: 'x86-64', format: 'squashfs', profile: 'publish' } as const;
  const dir = await writeMetrics('other', "'node-exporter'", '/usr/bin/node_exporter');
  const loaded = await loadExtension(dir);
  const claims = await describePayload(loaded, request, 'x86-64');
  expect(claims.requires).toEqual(['node-exporter']);
  const without = await describePayload({ ...loaded, extension: { ...loaded.extension, requires: [] } }, request, 'x86-64');
  expect(without.key).toBe(claims.key);
  const image = { extension: 'other', file: '/x.raw' } as Image;
  expect(manifestOf(image, { ...claims, needs: { systemd: '252', libraries: [] } } as unknown as Payload).requires).toEqual([
    'node-exporter',
  ]);
});
