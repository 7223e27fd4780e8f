import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Release } from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { updateCatalogue } from '@flatcar/workspace/update-catalogue';
import { changesText } from '../src/commands/releases.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'releases-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** One release of each channel, as Flatcar's list has it, with a kernel of its own for the stable one. */
function officialList(kernel: string): string {
  const entry = (channel: string, kernelOf: string): object => ({
    channel,
    architectures: ['amd64', 'arm64'],
    release_date: '2026-11-03 09:00:00',
    major_software: { kernel: [kernelOf], systemd: ['257'] },
  });
  return JSON.stringify({
    '4593.2.5': entry('stable', kernel),
    '4628.1.0': entry('beta', '6.12.60'),
    '4700.0.0': entry('alpha', '6.12.60'),
    '4081.3.9': entry('lts', '6.6.110'),
  });
}

test('an update tells what came, what left, and what has other data', async () => {
  const [file, from] = [join(dir, 'releases.json'), join(dir, 'list.json')];
  await writeFile(file, '[]');
  await writeFile(from, officialList('6.12.58'));
  expect((await updateCatalogue(pathToFileURL(file), from)).added).toEqual(['4593.2.5', '4628.1.0', '4700.0.0', '4081.3.9']);
  expect(changesText(await updateCatalogue(pathToFileURL(file), from))).toBe('nothing changed');
  await writeFile(from, officialList('6.12.61'));
  expect(changesText(await updateCatalogue(pathToFileURL(file), from))).toBe('~ 4593.2.5 has other data');
  expect((JSON.parse(await readFile(file, 'utf8')) as Release[])[0]?.kernel).toBe('6.12.61');
});
