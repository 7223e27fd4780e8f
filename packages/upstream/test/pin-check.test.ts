import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { formatProof, parseProof, readPins, upstream } from '@flatcar/core/engine';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { checkPins, type CheckedPin, type CheckRequest } from '../src/pin/check.ts';
import { pinVersion } from '../src/pin/pin.ts';
import { proofRank } from '../src/verify/proof.ts';
import { extensionOf, openFakeInternet, sha, type FakeInternet } from './fake-internet.ts';

const tool = upstream('https://example.org/v{version}/tool-{arch}', { checksum: '{url}.sha256' });
const plain = upstream('https://example.org/v{version}/tool-{arch}', { checksum: 'none' });
let internet: FakeInternet;
let dir: string;
let file: string;

function publish(content: string): void {
  for (const arch of ['amd64', 'arm64']) {
    const url = `example.org/v1.2.3/tool-${arch}`;
    internet.served.set(url, `${content} ${arch}`).set(`${url}.sha256`, sha(`${content} ${arch}`));
  }
}
const check = (origin = tool, more: Partial<CheckRequest> = {}): Promise<CheckedPin[]> =>
  checkPins({ dir, extension: extensionOf([origin]), version: '1.2.3', ...more }, internet.context());
const states = async (...args: Parameters<typeof check>): Promise<string[]> => (await check(...args)).map(({ state }) => state);
/** Changes the lock as a person could. */
async function edit(change: (text: string) => string): Promise<void> {
  const text = await readFile(file, 'utf8');
  const after = change(text);
  expect(after).not.toBe(text);
  await writeFile(file, after);
}

beforeAll(async () => {
  internet = await openFakeInternet();
  dir = join(internet.dir, 'tool');
  file = join(dir, 'pins.json');
});
afterAll(() => internet.close());
beforeEach(async () => {
  internet.served.clear();
  await rm(dir, { recursive: true, force: true });
  await rm(join(internet.dir, 'store', 'blobs'), { recursive: true, force: true });
  publish('good');
  await pinVersion({ dir, extension: extensionOf([tool]), version: '1.2.3', licenses: { tool: 'MIT' } }, internet.context());
});

describe('pins', () => {
  test('that upstream has are the same, and nothing is written', async () => {
    const before = await readFile(file, 'utf8');
    expect(await states()).toEqual(['same', 'same']);
    expect(await readFile(file, 'utf8')).toBe(before);
  });

  test.each([
    ['another digest', (text: string) => text.replace(sha('good arm64'), sha('evil'))],
    ['another size', (text: string) => text.replace(/"size": \d+/, '"size": 5')],
    ['a signature that nobody made', (text: string) => text.replace('sha256 file', `sha256 file, signed by PGP 0x${'12'.repeat(20)}`)],
    ['a proof of the same worth that is another', (text: string) => text.replace('sha256 file', 'GitHub asset digest')],
    [
      'a signature of sigstore that nobody made',
      (text: string) =>
        text.replace('sha256 file', 'sha256 file; signed by https://github.com/a/b/.github/workflows/c.yml@refs/tags/v1 (sigstore)'),
    ],
  ])('with %s are different', async (_, change) => {
    await edit(change);
    expect((await states()).toSorted()).toEqual(['different', 'same']);
  });

  test.each([
    ['sha256 file', 'looks right'],
    ['sha256 file', 'sha256 file, signed by the maintainer'],
    ['sha256 file', 'sha256 file, signed by PGP 0x1234'],
    ['sha256 file', 'third-party pin: compared it myself'],
    ['sha256 file', 'Go checksum database, mostly'],
  ])('in the words of a person are not read: %s as %s', async (from, to) => {
    await edit((text) => text.replace(from, to));
    await expect(check()).rejects.toThrow(`'${to}' is not a proof that pin writes`);
  });

  test('that nothing in the definition uses are different', async () => {
    const own = await readFile(file, 'utf8');
    const entry = { sha256: sha('old'), proof: 'sha256 file' };
    const lock = JSON.parse(own) as Record<string, { bytes: Record<string, unknown> }>;
    for (const locator of ['https://example.org/old', 'debian:pool/main/t/tool/tool_1_amd64.deb']) {
      lock['1.2.3']!.bytes[locator] = entry; // eslint-disable-line @typescript-eslint/no-non-null-assertion
      await writeFile(file, JSON.stringify(lock));
      const found = await check();
      expect(found.filter(({ state }) => state === 'different').map((one) => [one.locator, one.found])).toContainEqual([
        locator,
        'nothing in the definition uses it',
      ]);
    }
    // What the base has already is no change of this one.
    const before = new Map([[file, readPins(JSON.stringify(lock), file)]]);
    expect(await check(tool, { before })).toEqual([]);
  });

  test('are different when upstream replaced its file, also beside its checksum', async () => {
    publish('other');
    expect(await states()).toEqual(['different', 'different']);
    publish('good');
    internet.served.set('example.org/v1.2.3/tool-amd64', 'other');
    await rm(join(internet.dir, 'store', 'blobs'), { recursive: true, force: true });
    expect((await states()).toSorted()).toEqual(['different', 'same']);
  });

  test('of a third party are kept; a stronger proof of upstream is reported', async () => {
    await edit((text) => text.replaceAll('sha256 file', 'third-party pin: kubespray'));
    expect(await states()).toEqual(['stronger', 'stronger']);
    expect(await states(plain)).toEqual(['same', 'same']);
    await edit((text) => text.replace(sha('good arm64'), sha('evil')));
    expect((await states(plain)).toSorted()).toEqual(['different', 'same']);
  });

  test('whose host does not answer, or has removed them, are not reported as different', async () => {
    internet.served.delete('example.org/v1.2.3/tool-amd64.sha256');
    internet.served.set('example.org/v1.2.3/tool-arm64.sha256', (request) => (request.socket.destroy(), {}));
    expect(await states()).toEqual(['unreached', 'unreached']);
  });

  test('that a change does not touch are not checked', async () => {
    const before = new Map([[file, readPins(await readFile(file, 'utf8'), file)]]);
    internet.served.clear();
    internet.asked.length = 0;
    expect(await check(tool, { before })).toEqual([]);
    expect(internet.asked).toEqual([]);
    publish('good');
    await edit((text) => text.replace('sha256 file', `sha256 file, signed by PGP 0x${'12'.repeat(20)}`));
    expect(await states(tool, { before })).toEqual(['different']);
  });

  test('are checked once, whoever shares them', async () => {
    const seen = new Set<string>();
    expect(await states(tool, { seen })).toHaveLength(2);
    expect(await states(tool, { seen })).toEqual([]);
  });

  test('of a version that is not pinned are an error', async () => {
    await expect(check(tool, { version: '9.9.9' })).rejects.toThrow('tool 9.9.9 is not pinned');
  });
});

test('each proof is read into its parts', () => {
  const pgp = 'AB'.repeat(20);
  const workflow = 'https://github.com/a/b/.github/workflows/c.yml@refs/tags/v1';
  const upstream = { kind: 'upstream', checksumSigners: [], signers: [] } as const;
  for (const [text, proof] of [
    ['nothing published: as first downloaded', upstream],
    ['sha512 file', { ...upstream, checksum: 'sha512 file' }],
    ['GitHub asset digest', { ...upstream, checksum: 'GitHub asset digest' }],
    [`signed by PGP 0x${pgp}`, { ...upstream, signers: [{ kind: 'pgp', fingerprint: pgp }] }],
    [
      `sha256 list, signed by PGP 0x${pgp}, release@example.org (sigstore); signed by ${workflow} for https://github.com/x/y at refs/tags/v1 (sigstore)`,
      {
        kind: 'upstream',
        checksum: 'sha256 list',
        checksumSigners: [
          { kind: 'pgp', fingerprint: pgp },
          { kind: 'sigstore', identity: 'release@example.org' },
        ],
        signers: [{ kind: 'sigstore', identity: workflow, source: 'https://github.com/x/y', ref: 'refs/tags/v1' }],
      },
    ],
    ['Go checksum database', { kind: 'go' }],
    ['crates registry index', { kind: 'crates' }],
    ['Debian archive index, signed by the archive key', { kind: 'debian' }],
    ['third-party pin', { kind: 'third-party' }],
    ['third-party pin: siderolabs/extensions', { kind: 'third-party', from: 'siderolabs/extensions' }],
    ['third-party pin, one source', { kind: 'third-party', note: 'one source' }],
    [
      'third-party pin: nerdctl; upstream publishes no checksum',
      { kind: 'third-party', from: 'nerdctl', note: 'upstream publishes no checksum' },
    ],
  ] as const) {
    expect(parseProof(text), text).toEqual(proof);
    expect(formatProof(proof)).toBe(text);
  }
  for (const text of [
    'sha256 list, signed by',
    'sha256 list,',
    'sha256 list; ',
    'signed by ',
    'signed by me',
    'sha256 list signed by x (sigstore)',
    'x\nGo checksum database',
  ])
    expect(parseProof(text), text).toBeUndefined();
});

const rankOf = (text: string): number => proofRank(parseProof(text));

test('proofs have an order, and text that only resembles one is the weakest', () => {
  const ordered = [
    'trust me',
    'nothing published: as first downloaded',
    'third-party pin: nerdctl',
    'sha256 list',
    'Go checksum database',
    `sha512 file, signed by PGP 0x${'12'.repeat(20)}`,
  ];
  expect(ordered.map(rankOf)).toEqual([0, 1, 2, 3, 4, 5]);
  expect(['crates registry index', 'GitHub asset digest', 'sha512 file'].map(rankOf)).toEqual([3, 3, 3]);
  expect(rankOf('Debian archive index, signed by the archive key')).toBe(5);
  for (const text of ['', 'not signed by anybody', 'Go checksum database?', 'my sha256 list', 'unsigned by x'])
    expect(rankOf(text), text).toBe(0);
});
