import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Signature } from '@flatcar/core/engine';
import { openFakeInternet, sha, type FakeInternet } from '@flatcar/upstream/test/fake-internet';
import { IDENTITY, ISSUER, openFakeSigstore, RUN, WORKFLOW, type FakeSigstore, type Run } from '@flatcar/upstream/test/fake-sigstore';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { proposeSignatures } from '../src/new/propose-signatures.ts';

const content = Buffer.from('the bytes of a tool');
let internet: FakeInternet;
let sigstore: FakeSigstore;
beforeAll(async () => {
  internet = await openFakeInternet();
  sigstore = await openFakeSigstore();
});
afterAll(() => internet.close());

describe('the signer that new proposes', () => {
  const bundle = { kind: 'sigstore', of: 'file', url: '{url}.sigstore.json' } as const;
  const propose = async (name: string, run: Run, url: string): Promise<{ signatures: Signature[]; notes: string[] }> => {
    const path = join(internet.dir, 'proposed');
    await writeFile(path, content);
    internet.served.set(`${url.slice('https://'.length)}.sigstore.json`, (await sigstore.signBlob(content, name, ISSUER, run)).bundle);
    return proposeSignatures(
      [bundle],
      { url, path, sha256: sha(content), version: '1.2.3' },
      undefined,
      internet.context(),
      sigstore.trust(),
    );
  };
  const url = 'https://github.com/example/tool/releases/download/v1.2.3/tool';
  const BUILDER = 'https://github.com/builders/shared/.github/workflows/bake.yml';

  test('binds the version, and the repository of a workflow that is elsewhere', async () => {
    const { signatures } = await propose(IDENTITY, RUN, url);
    expect(signatures).toMatchObject([{ issuer: ISSUER, identity: `${WORKFLOW}@refs/tags/v{version}`, bundle: '{url}.sigstore.json' }]);
    const shared = await propose(`${BUILDER}@refs/heads/main`, RUN, url);
    expect(shared.signatures).toMatchObject([
      { identity: `${BUILDER}@*`, source: 'https://github.com/example/tool', ref: 'refs/tags/v{version}' },
    ]);
  });
  test.each([
    [
      'of another project',
      { ...RUN, 5: 'evil/tool', 12: 'https://github.com/evil/tool' },
      /signed by a run of https:\/\/github\.com\/evil\/tool/,
    ],
    ['for another version', { 12: 'https://github.com/example/tool', 14: 'refs/tags/v1.2.2' }, /does not name version 1\.2\.3/],
  ] as const)('is nothing for a run %s', async (_, run, note) => {
    const { signatures, notes } = await propose(`${BUILDER}@refs/heads/main`, run, url);
    expect(signatures).toEqual([]);
    expect(notes.join('\n')).toMatch(note);
  });
});
