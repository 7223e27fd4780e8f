import { access, appendFile, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { selectTargets, type Event, type Target } from '@flatcar/core/engine';
import { bindPayloads } from '@flatcar/workspace/bind-payloads';
import { build } from '@flatcar/workspace/build';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { VERSION, writeOwnFiles } from './helpers/own-files.ts';

const [old] = selectTargets('4593.2.5') as [Target];
const [ddi] = selectTargets('4790.0.0') as [Target];
const { signal } = new AbortController();
let dir: string;
let payloads: string;
let out: string;
let events: Event[] = [];

/** Builds the payloads of an extension; returns their folder. */
async function payloadsOf(name: string, targets: readonly Target[]): Promise<string> {
  const chosen = [{ loaded: await writeOwnFiles(dir, name), version: VERSION }];
  const folder = join(dir, 'payloads');
  const how = { names: [], targets, arches: ['x86-64'], profile: 'fast', origin: 'auto', out: folder, payloadsOnly: true } as const;
  await build({ settings: how, chosen, context: {} }, () => undefined, signal);
  return join(folder, name, 'payload');
}
const bind = (paths: readonly string[], targets: readonly Target[]): Promise<readonly string[]> =>
  bindPayloads({ paths }, { targets, out }, (event) => void events.push(event), signal).then((images) =>
    images.map(({ file }) => file.slice(out.length + 1)),
  );

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bind-'));
  payloads = await payloadsOf('one', ['portable', ddi]);
});
afterAll(() => rm(dir, { recursive: true, force: true }));
beforeEach(async () => {
  out = await mkdtemp(join(dir, 'out-'));
  events = [];
});

test('each target is bound from the payload of its format, found in a folder or named', async () => {
  const images = await bind([payloads], ['portable', old, ddi]);
  expect([...images].toSorted()).toEqual([
    `one/4593.2.5/one.4593.2.5_${VERSION}_x86-64.raw`,
    `one/4790.0.0/one.4790.0.0_${VERSION}_x86-64.raw`,
    `one/portable/one.portable_${VERSION}_x86-64.raw`,
  ]);
  for (const image of images) await access(join(out, image));
  const record = (await readdir(payloads)).find((name) => name.endsWith('squashfs.payload.json'));
  expect(await bind([join(payloads, record ?? '')], ['portable'])).toHaveLength(1);
});

test('several extensions in one folder are all bound', async () => {
  await payloadsOf('two', ['portable']);
  const images = await bind([join(dir, 'payloads')], ['portable']);
  expect(images.map((image) => image.split('/')[0])).toEqual(['one', 'two']);
});

test('a target without a payload of its format is an error that names it', async () => {
  const only = await payloadsOf('squashfs-only', ['portable']);
  await expect(bind([only], ['portable', ddi])).rejects.toMatchObject({
    message: 'no payload has the format of 4790.0.0',
    next: expect.stringContaining('--release 4790.0.0'),
  });
});

test('a payload that does not match its record is refused, and nothing is bound from it', async () => {
  const changed = await payloadsOf('changed', ['portable']);
  const file = (await readdir(changed)).find((name) => !name.endsWith('.json')) ?? '';
  await appendFile(join(changed, file), 'x');
  await expect(bind([changed], ['portable'])).rejects.toMatchObject({
    message: 'the payload does not match its record',
    where: join(changed, file),
  });
  expect(await readdir(out)).toEqual([]);
});

test('a folder without records, and one that is not there, are errors', async () => {
  await mkdir(join(out, 'empty'));
  await expect(bind([join(out, 'empty')], ['portable'])).rejects.toMatchObject({ next: expect.stringContaining('build first') });
  await expect(bind([join(out, 'absent')], ['portable'])).rejects.toMatchObject({ where: join(out, 'absent') });
});

test('an interruption ends it before the next payload', async () => {
  const bound = bindPayloads({ paths: [payloads] }, { targets: ['portable'], out }, () => undefined, AbortSignal.abort());
  await expect(bound).rejects.toMatchObject({ name: 'AbortError' });
  expect(await readdir(out)).toEqual([]);
});
