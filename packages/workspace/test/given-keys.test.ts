// Which keys a command uses, by its flags and the environment; and the targets of a published tree.
import { expect, test } from 'vitest';
import { signKeys, treeTrust } from '@flatcar/workspace/given-keys';
import { noMemory, readPublished } from '@flatcar/publish';
import { treeTargets } from '@flatcar/workspace/tree-targets';

test('a tree is not verified without a root that somebody gave; an empty flag is no root', async () => {
  const trust = await treeTrust({ keys: '', root: '' });
  expect(trust).toEqual({ root: undefined, firstUse: false });
  const empty = { where: 'a tree', read: async () => undefined };
  await expect(readPublished(empty, { ...trust, memory: noMemory })).rejects.toMatchObject({
    message: 'cannot verify this tree: no root of trust is given',
    code: 'no-root',
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
