import { readdir } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { componentsOf, findExtensions, loadExtension } from '@flatcar/core/engine';
import { expect, test } from 'vitest';
import { testFolder } from '../src/folders.ts';
import { definitionsIn } from '../src/levels.ts';
import type { TlsChecks } from '../src/spec.ts';

const REPOSITORY = resolve(import.meta.dirname, '../../..');

/** Debian's packages of the libraries that verify certificates. */
const TLS_PACKAGES = /\/(?:libssl\d[^/_]*|libgnutls\d[^/_]*|libnss3)_[^/]*\.deb$/;

/** Locks that have such a library, each with the folders of the extensions that are made from it. */
async function locksWithTls(): Promise<Map<string, Set<string>>> {
  const locks = new Map<string, Set<string>>();
  for (const dir of await findExtensions(REPOSITORY)) {
    const loaded = await loadExtension(dir);
    for (const version of Object.keys(loaded.pins))
      for (const { dir: lock, pin } of (await componentsOf(loaded, version)).components)
        if (Object.keys(pin.bytes).some((locator) => TLS_PACKAGES.test(locator))) locks.set(lock, (locks.get(lock) ?? new Set()).add(dir));
  }
  return locks;
}

async function hasChecks(dir: string): Promise<boolean> {
  const folder = testFolder(dir);
  const files = (await readdir(folder)).filter((name) => name.endsWith('.test.ts'));
  const found: { about?: { tls?: TlsChecks } }[] = [];
  for (const file of files) found.push(...(await definitionsIn<{ about?: { tls?: TlsChecks } }>(join(folder, file))));
  return found.some(({ about }) => about?.tls !== undefined);
}

test('whatever has a TLS library shows in a test which CAs it believes', async () => {
  const locks = await locksWithTls();
  // What finds none would also pass.
  expect([...locks.keys()].map((lock) => basename(lock))).toEqual(expect.arrayContaining(['debug-tools', 'git', 'haproxy', 'sssd']));
  const without: string[] = [];
  for (const [lock, dirs] of locks) {
    let isChecked = false;
    for (const dir of dirs) isChecked ||= await hasChecks(dir);
    if (!isChecked) without.push(basename(lock));
  }
  expect(without, 'write `tls` in the test of an extension made of these: programs that verify servers, or why there are none').toEqual([]);
});
