import { userInfo } from 'node:os';
import { resolve } from 'node:path';
import { cacheRoot, dropEmpty, envOf, homeOf } from '@flatcar/core';
import { expect, test } from 'vitest';

test('an empty variable is an unset variable', () => {
  expect(envOf('A', { A: '' })).toBeUndefined();
  expect(envOf('A', {})).toBeUndefined();
  expect(envOf('A', { A: '0' })).toBe('0');
  const env = { A: '', B: 'b' };
  dropEmpty(env);
  expect(env).toEqual({ B: 'b' });
});

test("HOME that is unset, empty or relative is the user database's, never a folder inside the checkout", () => {
  const { homedir } = userInfo();
  for (const HOME of [undefined, '', 'home', '.']) {
    expect(homeOf({ HOME })).toBe(homedir);
    expect(cacheRoot({ HOME })).toBe(`${homedir}/.cache/flatcar-ext`);
    expect(cacheRoot({ HOME, XDG_CACHE_HOME: '', FLATCAR_EXT_CACHE: '' })).toBe(`${homedir}/.cache/flatcar-ext`);
  }
  expect(cacheRoot({ HOME: '/home/somebody' })).toBe('/home/somebody/.cache/flatcar-ext');
  expect(cacheRoot({ HOME: '/home/somebody', XDG_CACHE_HOME: 'relative' })).toBe('/home/somebody/.cache/flatcar-ext');
  expect(cacheRoot({ HOME: '/home/somebody', XDG_CACHE_HOME: '/var/cache' })).toBe('/var/cache/flatcar-ext');
  expect(cacheRoot({ FLATCAR_EXT_CACHE: 'mine' })).toBe(resolve('mine'));
});

test("under sudo the store is root's own, unless it is named", ({ skip }) => {
  if (process.geteuid?.() !== 0) return skip('skipped: only root can play sudo');
  const env = { HOME: '/home/somebody', XDG_CACHE_HOME: '/home/somebody/.cache', SUDO_UID: '1000' };
  expect(cacheRoot(env)).toBe(`${userInfo().homedir}/.cache/flatcar-ext`);
  expect(cacheRoot({ ...env, FLATCAR_EXT_CACHE: '/srv/store' })).toBe('/srv/store');
  expect(cacheRoot({ ...env, SUDO_UID: '0' })).toBe('/home/somebody/.cache/flatcar-ext');
});

test.for([':', ';', '%', '\n', '\r'])('a store whose path contains %j is refused before a tool fails on it', (character) => {
  expect(() => cacheRoot({ FLATCAR_EXT_CACHE: `/srv/a${character}b` })).toThrow(/the path of the store must not contain/);
});
