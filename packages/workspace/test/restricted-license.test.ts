import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadExtension, type LoadedExtension } from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { lintSource } from '../src/source-lint.ts';
import { REPOSITORY } from '../src/select.ts';

let dir = '';
let loaded: LoadedExtension;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'restricted-license-'));
  const own = join(REPOSITORY, 'extensions/btop');
  for (const name of ['pins.json', 'README.md', 'package.json']) await cp(join(own, name), join(dir, name));
  loaded = { ...(await loadExtension(own)), dir };
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Findings about the license, for a license and a reason to keep the extension local. */
async function findings(license: string, localOnly = ''): Promise<string[]> {
  const pins = Object.fromEntries(Object.entries(loaded.pins).map(([version, pin]) => [version, { ...pin, licenses: { btop: license } }]));
  const found = await lintSource({ ...loaded, pins, extension: { ...loaded.extension, localOnly } });
  return found.filter(({ rule }) => rule === 'restricted-license').map(({ what }) => what);
}

test.each(['BUSL-1.1', 'MIT AND BUSL-1.1', '(Elastic-2.0 OR BUSL-1.1)'])('%s keeps an extension local', async (license) => {
  expect(await findings(license)).toEqual([`btop is licensed under ${license}`]);
  expect(await findings(license, 'nobody else may offer it')).toEqual([]);
});
test.each(['MIT', 'MPL-2.0', 'Apache-2.0 OR BUSL-1.1', 'GPL-3.0-only'])('%s does not', async (license) => {
  expect(await findings(license)).toEqual([]);
});
