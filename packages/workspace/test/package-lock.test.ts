// The lock of npm is written without npm, and must be what npm would write: `npm ci` refuses another.
import { readdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { lockText } from '@flatcar/workspace/package-lock';

type Json = Record<string, unknown>;
const root = resolve(import.meta.dirname, '../../..');
let whole: string;
const manifests = new Map<string, Json>();

beforeAll(async () => {
  whole = await readFile(join(root, 'package-lock.json'), 'utf8');
  for (const name of await readdir(join(root, 'extensions'))) {
    const text = await readFile(join(root, 'extensions', name, 'package.json'), 'utf8').catch(() => undefined);
    if (text !== undefined) manifests.set(`extensions/${name}`, JSON.parse(text) as Json);
  }
});

/** The lock without the entries of some extensions. */
function without(...names: readonly string[]): string {
  const lock = JSON.parse(whole) as { packages: Json };
  for (const name of names) {
    expect(lock.packages).toHaveProperty([`extensions/${name}`]);
    delete lock.packages[`extensions/${name}`];
    delete lock.packages[`node_modules/${name}`];
  }
  return `${JSON.stringify(lock, undefined, 2)}\n`;
}

test('the lock that npm wrote is the one that is written here', () => {
  expect(lockText(whole, manifests)).toBe(whole);
  const names = [...manifests.keys()].map((path) => path.slice('extensions/'.length)).filter((name) => name !== 'extension-stager');
  expect(names.length).toBeGreaterThan(20);
  expect(lockText(without(...names), manifests)).toBe(whole);
});

test('an extension that has gone leaves the lock', () => {
  const fewer = new Map([...manifests].filter(([path]) => path !== 'extensions/yq'));
  expect(lockText(whole, fewer)).toBe(without('yq'));
});

test('what asks for a package of a registry is left to npm', () => {
  const change = (more: Json): string | undefined =>
    lockText(without('yq'), new Map([...manifests, ['extensions/yq', { ...manifests.get('extensions/yq'), ...more }]]));
  expect(change({})).toBe(whole);
  expect(change({ dependencies: { '@flatcar/core': '*', openpgp: '6.3.2' } })).toBeUndefined();
  expect(change({ bin: { yq: 'x' } })).toBeUndefined();
  expect(change({ name: 'other' })).toBeUndefined();
});

test('a lock that is not JSON is an error with what to do', () => {
  expect(() => lockText('{ "packages": {', manifests)).toThrow(/package-lock\.json/);
});
