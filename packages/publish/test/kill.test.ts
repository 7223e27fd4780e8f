import { spawn } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ARCHES, hashFile, imageBase, imageVersion, type TargetName, parseSums, selectTargets } from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { goodSignatures, initKeys, loadKeys, localDestination, publish, readPublished, type PublishKeys } from '../src/index.ts';
import { buildDemo } from './helpers/demo.ts';
import { trustOf } from './helpers/trust.ts';

// Each kill costs more than a second: CI does some, FLATCAR_EXT_KILLS=200 does as many as were asked for.
const KILLS = Number(process.env['FLATCAR_EXT_KILLS'] || 12);
const targets = selectTargets('portable,4593.2.5,4593.2.4,beta');
let dir: string;
let keysDir: string;
let keys: PublishKeys;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'kill-'));
  keysDir = join(dir, 'keys');
  await initKeys(keysDir);
  keys = await loadKeys(keysDir, {});
  for (const version of ['1.0.0', '1.0.1']) await buildDemo(join(dir, version), { version, targets, arches: ['x86-64', 'arm64'] });
  await publish({
    paths: [join(dir, '1.0.0')],
    destination: localDestination(join(dir, 'base')),
    keys,
    unsigned: true,
    baseUrl: 'https://one.example.org',
  });
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Looks at a tree as all its clients do; gives the versions that a node could install. Throws at whatever is not whole. */
async function checkTree(tree: string): Promise<Set<string>> {
  const versions = new Set<string>();
  for (const path of await readdir(tree, { recursive: true })) {
    if (!/(?:^|\/)SHA256SUMS$/.test(path) || path.includes('/.') || path.startsWith('.')) continue;
    const folder = join(tree, dirname(path));
    // Until its first sums are in place, a folder is none to a client.
    const bytes = await readFile(join(folder, 'SHA256SUMS')).catch(() => undefined);
    if (bytes === undefined) continue;
    expect((await goodSignatures(bytes, await readFile(join(folder, 'SHA256SUMS.gpg')), keys.trusted)).size, folder).toBe(1);
    const sums = parseSums(bytes.toString(), folder);
    for (const [name, sha256] of sums) if (!name.startsWith('BEST-BEFORE-')) expect(await hashFile(join(folder, name)), name).toBe(sha256);
    for (const version of ['1.0.0', '1.0.1'])
      for (const arch of ARCHES)
        if (sums.has(`${imageBase('demo', imageVersion(version, 0), basename(folder) as TargetName, arch)}.raw`)) versions.add(version);
  }
  const published = await readPublished(localDestination(tree), trustOf(keys));
  const index = await published.extension('demo');
  for (const { images } of index?.versions ?? [])
    for (const { path, sha256 } of images) expect(await hashFile(join(tree, path)), path).toBe(sha256);
  for (const { path, sha256, image } of await published.packages()) {
    expect(await hashFile(join(tree, path))).toBe(sha256);
    expect(await hashFile(join(tree, image.path))).toBe(image.sha256);
  }
  return versions;
}

/** Runs a publish in a process of its own and kills it so many milliseconds after it began; tells whether it had not ended by itself. */
async function killedAfter(tree: string, milliseconds: number): Promise<{ killed: boolean; took: number }> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'helpers/publish-once.ts'), tree, keysDir, join(dir, '1.0.1')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise<NodeJS.Signals | null>((resolve) => {
    child.once('exit', (_, signal) => resolve(signal));
  });
  await new Promise<void>((resolve) => {
    child.stdout.once('data', () => resolve());
  });
  const began = performance.now();
  const limit = new AbortController();
  await Promise.race([sleep(milliseconds, undefined, { signal: limit.signal }).catch(() => undefined), ended]);
  limit.abort();
  child.kill('SIGKILL');
  return { killed: (await ended) === 'SIGKILL', took: performance.now() - began };
}

test(
  `killed at ${KILLS} random points, what is served is whole, and the next run completes it`,
  async () => {
    const whole = join(dir, 'whole');
    await cp(join(dir, 'base'), whole, { recursive: true, verbatimSymlinks: true });
    const first = await killedAfter(whole, 600_000);
    expect(first.killed).toBe(false);
    let longest = first.took;
    expect(await checkTree(whole)).toEqual(new Set(['1.0.0', '1.0.1']));
    let killed = 0;
    let changed = 0;
    for (let round = 0; round < KILLS; round += 1) {
      const tree = join(dir, `tree-${round}`);
      await cp(join(dir, 'base'), tree, { recursive: true, verbatimSymlinks: true });
      const run = await killedAfter(tree, Math.random() * longest);
      if (run.killed) killed += 1;
      else longest = Math.min(longest, run.took); // the first may have run while the machine was busy
      const versions = await checkTree(tree);
      expect(versions.has('1.0.0')).toBe(true);
      if (versions.has('1.0.1')) changed += 1;
      const result = await publish({
        paths: [join(dir, '1.0.1')],
        destination: localDestination(tree),
        keys,
        unsigned: true,
      });
      expect(result.serial).toBe(2);
      expect(await checkTree(tree)).toEqual(new Set(['1.0.0', '1.0.1']));
      expect((await readdir(tree)).includes('.staging')).toBe(false);
      await rm(tree, { recursive: true });
    }
    console.error(`${killed} of ${KILLS} were killed before their end; ${changed} trees showed the new version already`);
    expect(killed).toBeGreaterThan(0);
  },
  300_000 + KILLS * 60_000,
);

test('a client that reads all the time sees a whole tree, at most after trying once more', async () => {
  const tree = join(dir, 'read');
  await cp(join(dir, 'base'), tree, { recursive: true, verbatimSymlinks: true });
  const folder = join(tree, 'demo/portable');
  const done = new AbortController();
  let reads = 0;
  const read = async (): Promise<boolean> => {
    const [sums, signature] = [await readFile(join(folder, 'SHA256SUMS')), await readFile(join(folder, 'SHA256SUMS.gpg'))];
    return (await goodSignatures(sums, signature, keys.trusted)).size === 1;
  };
  const reading = (async () => {
    while (!done.signal.aborted) {
      if (!(await read())) expect(await read(), 'twice in a row').toBe(true);
      reads += 1;
    }
  })();
  await publish({ paths: [join(dir, '1.0.1')], destination: localDestination(tree), keys, unsigned: true });
  done.abort();
  await reading;
  expect(reads).toBeGreaterThan(0);
});
