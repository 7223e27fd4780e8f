// Files that follow from the index, for people and their programs.
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { selectTargets } from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { initKeys, loadKeys, localDestination, parseIndex, publish, type Index } from '../src/index.ts';
import { buildDemo } from './helpers/demo.ts';

let dir: string;
let index: Index;
const read = (path: string): Promise<string> => readFile(join(dir, 'tree', path), 'utf8');

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'readers-'));
  await initKeys(join(dir, 'keys'));
  const targets = selectTargets('portable,stable,beta');
  await buildDemo(join(dir, 'one'), { version: '1.0.0', targets });
  await buildDemo(join(dir, 'one'), { name: 'other', version: '3.0', targets: ['portable'] });
  await buildDemo(join(dir, 'two'), { version: '1.0.1', targets });
  const options = {
    destination: localDestination(join(dir, 'tree')),
    keys: await loadKeys(join(dir, 'keys'), {}),
    unsigned: true,
    baseUrl: 'https://one.example.org',
  };
  await publish({ ...options, paths: [join(dir, 'one')] });
  const withdraw = { name: 'demo', version: '1.0.0', reason: 'it eats <disks> & "more"', by: '1.0.1' };
  await publish({ ...options, paths: [join(dir, 'two')], withdraw });
  index = parseIndex(await read('index.json'), 'index.json');
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Titles of a feed, read by a real XML parser. */
const titles = (path: string): string[] =>
  execFileSync(
    'python3',
    [
      '-c',
      'import sys,xml.etree.ElementTree as e\nn="{http://www.w3.org/2005/Atom}"\nf=e.parse(sys.argv[1]).getroot()\nassert f.tag==n+"feed" and f.find(n+"id").text and f.find(n+"updated").text\nfor x in f.findall(n+"entry"):\n  assert x.find(n+"id").text and x.find(n+"updated").text\n  print(x.find(n+"title").text)',
      join(dir, 'tree', path),
    ],
    { encoding: 'utf8' },
  )
    .trim()
    .split('\n');

test('the index lists the latest changes, and the feeds have them', async () => {
  expect(index.changes.map(({ name, version, withdrawn }) => [name, version, withdrawn])).toEqual([
    ['demo', '1.0.1', undefined],
    ['demo', '1.0.0', 'it eats <disks> & "more"'],
    ['demo', '1.0.0', undefined],
    ['other', '3.0', undefined],
  ]);
  const demo = ['demo 1.0.1 published', 'demo 1.0.0 withdrawn', 'demo 1.0.0 published'];
  expect(titles('feed.atom')).toEqual([...demo, 'other 3.0 published']);
  expect(titles('demo/feed.atom')).toEqual(demo);
  expect(titles('other/feed.atom')).toEqual(['other 3.0 published']);
});

test('the published JSON Schemas accept the published indexes, and nothing else', async () => {
  for (const [schema, path] of [
    ['index.schema.json', 'index.json'],
    ['extension-index.schema.json', index.extensions[0]?.path ?? ''],
  ] as const) {
    const ajv = new Ajv2020({ strict: true, allErrors: true });
    addFormats.default(ajv);
    const validate = ajv.compile(JSON.parse(await read(schema)) as object);
    const document = JSON.parse(await read(path)) as Record<string, unknown>;
    expect(validate(document), JSON.stringify(validate.errors)).toBe(true);
    expect(validate({ ...document, more: 1 })).toBe(false);
    expect(validate({ ...document, schema: 99 })).toBe(false);
  }
});

test('llms.txt names every extension and the schemas', async () => {
  const text = await read('llms.txt');
  for (const { name, newest } of index.extensions) expect(text).toMatch(new RegExp(`^- \\[${name}\\].*newest version ${newest}$`, 'm'));
  expect(text).toContain('https://one.example.org/index.schema.json');
});
