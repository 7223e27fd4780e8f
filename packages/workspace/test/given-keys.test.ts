// Which keys a command uses, by its flags and the environment; and the targets of a published tree.
import { expect, test } from 'vitest';
import { signKeys, trustedKeys } from '@flatcar/workspace/given-keys';
import { treeTargets } from '@flatcar/workspace/tree-targets';
import { withEnv } from './helpers/env.ts';

test('a tree is not verified without a key that somebody gave; an empty flag is no key', async () => {
  await withEnv({ FLATCAR_EXT_SUMS_KEY: undefined }, async () => {
    await expect(trustedKeys({ keys: '', keyring: '' })).rejects.toThrow('cannot verify this tree: no public key given');
  });
});

test('a key without its certificate, and a certificate without its key, are usage errors', async () => {
  await expect(signKeys({ key: 'a.pem' })).rejects.toMatchObject({ code: 'usage', message: '--key and --certificate go together' });
  await expect(signKeys({ certificate: 'a.crt' })).rejects.toMatchObject({ code: 'usage' });
  expect(await signKeys({ key: 'a.pem', certificate: 'a.crt' })).toEqual({ key: 'a.pem', certificate: 'a.crt' });
  expect(await signKeys({})).toBeUndefined();
});

test('a release that left the catalogue is a target of a published tree, with the facts of the nearest release', () => {
  const [portable, old] = treeTargets('portable, 4081.99.99');
  expect(portable).toBe('portable');
  expect(old).toMatchObject({ number: '4081.99.99', format: 'squashfs' });
  expect(() => treeTargets('no-such-channel')).toThrow();
});
