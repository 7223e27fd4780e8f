// What a test of an extension says is checked whole before anything is built.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { findExtensions } from '@flatcar/core/engine';
import { definitionsIn } from '../src/levels.ts';
import { checkSpec } from '../src/extension/check-spec.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'spec-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const COMMANDS = [{ run: ['tool', '--version'], says: 'version' }];

test.each<[Parameters<typeof checkSpec>[0], object, string]>([
  ['testExtension', { commands: COMMANDS, unit: [] }, "unknown key 'unit'; did you mean 'units'?"],
  ['testExtension', { comands: COMMANDS }, "unknown key 'comands'; did you mean 'commands'?"],
  ['testExtension', {}, "'commands' is missing"],
  [
    'testExtension',
    { commands: [{ run: 'tool', says: /x/ }] },
    "commands[0].run: expected a list, got the string 'tool'; write it as ['tool']",
  ],
  [
    'testExtension',
    { commands: [{ run: ['tool'], says: 'verison' }] },
    "commands[0].says: 'verison' is not one of version; did you mean 'version'?",
  ],
  ['testExtension', { commands: [{ run: ['tool'], say: /x/ }] }, "commands[0]: unknown key 'say'; did you mean 'says'?"],
  ['testExtension', { commands: [{ run: ['tool'] }] }, "commands[0]: 'says' is missing"],
  ['testExtension', { commands: [], kind: 'confxt' }, "kind: 'confxt' is not one of sysext, confext; did you mean 'confext'?"],
  ['testExtension', { commands: [], units: ['tool'] }, "units[0]: 'tool' is not the name of a unit that can be started"],
  [
    'testExtension',
    { commands: [], paths: ['var/lib/tool'] },
    "paths[0]: 'var/lib/tool' is not an absolute path; write it as '/var/lib/tool'",
  ],
  ['testExtension', { commands: [], machine: { actives: [] } }, "machine: unknown key 'actives'; did you mean 'active'?"],
  ['testExtension', { commands: [], machine: { ports: [70_000] } }, 'machine.ports[0]: 70000 is not a port'],
  [
    'testExtension',
    { commands: [], machine: { answers: [{ run: 'true', say: /x/ }] } },
    "machine.answers[0]: unknown key 'say'; did you mean 'says'?",
  ],
  ['testExtension', { commands: [], machine: { files: { 'etc/x': '' } } }, 'machine.files: paths must be absolute'],
  ['testExtension', { commands: [], small: 'yes' }, "small: expected true or false, got the string 'yes'"],
  [
    'testExtension',
    { commands: [], origin: 'upsteam' },
    "origin: 'upsteam' is not one of auto, upstream, source; did you mean 'upstream'?",
  ],
  ['testRelocated', { folder: 'usr/lib/x', commands: COMMANDS }, "folder: 'usr/lib/x' is not an absolute path"],
  ['testRelocated', { folder: '/usr/lib/x', commands: COMMANDS, statics: [] }, "unknown key 'statics'; did you mean 'static'?"],
  ['testRealUse', { uses: [{ does: 'x', run: 'x', give: '' }] }, "uses[0]: unknown key 'give'; did you mean 'gives'?"],
  ['testUpstream', { program: [] }, "unknown key 'program'; did you mean 'programs'?"],
])('%s(%o) is refused', (helper, about, says) => {
  expect(() => {
    checkSpec(helper, dir, about);
  }).toThrow(says);
});

test('the error has the file that calls the helper, and the line', async () => {
  await writeFile(join(dir, 'other.test.ts'), '');
  const file = join(dir, 'extension.test.ts');
  await writeFile(file, "testExtension(import.meta.dirname, {\n  commands: [],\n  unit: ['x.service'],\n  small: 1,\n});\n");
  expect(() => {
    checkSpec('testExtension', dir, { commands: [], unit: ['x.service'], small: 1 });
  }).toThrow(new RegExp(`2 errors\\n.*${RegExp.escape(file)}:4: small: .*\\n${RegExp.escape(file)}:3: unknown key 'unit'`));
});

test('what every extension of the repository says is right', async () => {
  const repository = resolve(import.meta.dirname, '../../..');
  let count = 0;
  for (const one of await findExtensions(repository)) {
    const file = join(one, 'test/extension.test.ts');
    if (!(await readFile(file, 'utf8').catch(() => '')).includes('@flatcar/testing')) continue;
    await definitionsIn(file);
    count += 1;
  }
  expect(count).toBeGreaterThan(0);
});
