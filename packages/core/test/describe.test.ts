import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ARCHES } from '../src/model/arch.ts';
import { checkClaims, describePayload, type PayloadRequest } from '../src/pipeline/describe.ts';
import type { LoadedExtension } from '../src/definition/types.ts';
import { findExtensions, loadExtension } from '../src/definition/load.ts';
import { parsePayload } from '../src/model/payload-record.ts';
import { buildExtension } from '../src/pipeline/build.ts';
import { openStore } from '../src/store/store.ts';
import { openTools } from '../src/tools/tools.ts';
import type { Payload } from '../src/model/payload.ts';
import { imageVersion } from '../src/model/names.ts';
import { targetOf } from './helpers/targets.ts';

const repository = resolve(import.meta.dirname, '../../..');
const request: PayloadRequest = { version: '2026.11.24', arch: 'x86-64', format: 'squashfs', profile: 'publish' };

let dir: string;
let loaded: LoadedExtension;
let payloads: readonly Payload[];
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'describe-'));
  loaded = await loadExtension(join(repository, 'extensions/extension-stager'));
  const store = openStore();
  const built = await buildExtension(loaded, {
    ...request,
    version: Object.keys(loaded.pins)[0] ?? '',
    targets: ['portable', targetOf('4757.1.0')],
    payloadsOnly: true,
    origin: 'upstream',
    out: join(dir, 'out'),
    store,
    tools: openTools(store),
    report: () => undefined,
  });
  ({ payloads } = built);
  expect(built.images).toEqual([]);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const requestOf = ({ upstream: version, arch, format, profile }: Payload): PayloadRequest => ({ version, arch, format, profile });

describe('the claims of a record about its inputs', () => {
  test('is what is computed without a build, for each format', async () => {
    expect(payloads.map(({ format }) => format)).toEqual(['squashfs', 'ddi']);
    for (const payload of payloads) expect(await checkClaims(payload, loaded, requestOf(payload))).toEqual([]);
  });

  // Each of them decides what a publisher, a client or a reader of the build record believes.
  const forged: readonly [string, (payload: Payload) => Partial<Payload>][] = [
    ['key', () => ({ key: 'f'.repeat(64) })],
    ['summary', () => ({ summary: 'another' })],
    ['version', () => ({ version: imageVersion('99.0.0', 0) })],
    ['revision', () => ({ revision: 7 })],
    ['components[0].license', ({ components }) => ({ components: components.map((one) => ({ ...one, license: 'MIT' })) })],
    ['components[0].version', ({ components }) => ({ components: components.map((one) => ({ ...one, version: '99.0.0' })) })],
    [
      'components[0].materials[0].sha256',
      ({ components }) => ({
        components: components.map((one) => ({
          ...one,
          materials: one.materials.map((material) => ({ ...material, sha256: '0'.repeat(64) })),
        })),
      }),
    ],
    [
      'components[0].materials[0].proof',
      ({ components }) => ({
        components: components.map((one) => ({
          ...one,
          materials: one.materials.map((material) => ({ ...material, proof: 'signed by k8s (sigstore)' })),
        })),
      }),
    ],
    ['components[1]', ({ components }) => ({ components: [...components, ...components.map((one) => ({ ...one, name: 'more' }))] })],
    ['tools[0].sha256', ({ tools }) => ({ tools: tools.map((tool) => ({ ...tool, sha256: '0'.repeat(64) })) })],
    ['tools[0].status', ({ tools }) => ({ tools: tools.map((tool) => ({ ...tool, status: 'unpinned: it left' })) })],
    ['publishBlockers[0]', () => ({ publishBlockers: [{ code: 'fixture', what: 'made elsewhere' }] })],
    ['waived.shadowing', () => ({ waived: { shadowing: 'because' } })],
    ['replaces[0]', () => ({ replaces: ['usr/bin/containerd'] })],
    ['conflicts[0]', () => ({ conflicts: ['docker'] })],
    ['kind', () => ({ kind: 'confext' })],
  ];
  test.each(forged)('a forged %s is found', async (field, forge) => {
    for (const payload of payloads) {
      const fields = (await checkClaims({ ...payload, ...forge(payload) }, loaded, requestOf(payload))).map((one) => one.field);
      expect(
        fields.some((found) => found === field || found.startsWith(`${field}.`)),
        fields.join(' '),
      ).toBe(true);
    }
  });

  test('another file in the checkout is found', async () => {
    const copy = join(dir, 'extensions/extension-stager');
    await cp(loaded.dir, copy, { recursive: true, filter: (path) => !/\/(?:node_modules|dist|\.turbo)$/.test(path) });
    await writeFile(join(copy, 'files/usr/lib/more'), 'more');
    const [payload] = payloads;
    if (payload === undefined) throw new Error('there is none');
    const fields = (await checkClaims(payload, { ...loaded, dir: copy }, requestOf(payload))).map(({ field }) => field);
    expect(fields).toEqual(['components[0].materials[0].sha256', 'key']);
  });

  test('a payload that the other kind of machine built is computed by its tools', async () => {
    const kubernetes = await loadExtension(join(repository, 'extensions/kubernetes'));
    const asked = { ...request, version: Object.keys(kubernetes.pins)[0] ?? '' };
    for (const host of ARCHES) {
      const claims = await describePayload(kubernetes, asked, host);
      expect(await checkClaims({ ...payloads[0], ...claims } as Payload, kubernetes, asked)).toEqual([]);
      // Its tools are its own: those of the other kind beside them are those of no machine.
      const mixed = { ...payloads[0], ...claims, tools: [...claims.tools].toReversed() } as Payload;
      expect(await checkClaims(mixed, kubernetes, asked)).not.toEqual([]);
    }
  });

  test('an extension for local use only is never publishable', async () => {
    const local: LoadedExtension = { ...loaded, extension: { ...loaded.extension, localOnly: 'its license forbids that' } };
    const { publishBlockers } = await describePayload(local, { ...request, version: Object.keys(loaded.pins)[0] ?? '' }, 'x86-64');
    expect(publishBlockers).toEqual([{ code: 'local-only', what: 'it is for local use only: its license forbids that' }]);
  });

  test('a payload that names another origin of its definition is computed by that, and is not publishable', async () => {
    const kubernetes = await loadExtension(join(repository, 'extensions/kubernetes'));
    const asked = { ...request, version: Object.keys(kubernetes.pins)[0] ?? '' };
    const preferred = await describePayload(kubernetes, asked, 'x86-64');
    expect(preferred).toMatchObject({ publishBlockers: [] });
    const kinds = preferred.components.map(({ origin }) => (origin === 'upstream' ? 'go' : origin));
    const compiled = await describePayload(kubernetes, asked, 'x86-64', kinds);
    expect([...new Set(compiled.publishBlockers.map(({ code }) => code))]).toEqual(['fallback']);
    expect(compiled.components.map(({ origin }) => origin)).toEqual(kinds);
    expect(compiled.key).not.toBe(preferred.key);
  });
});

test('every pinned version of every extension can be described for both kinds of machine', async () => {
  const problems: string[] = [];
  for (const one of await findExtensions(repository)) {
    const extension = await loadExtension(one);
    for (const version of Object.keys(extension.pins))
      for (const arch of ARCHES)
        for (const host of ARCHES)
          await describePayload(extension, { ...request, version, arch }, host).catch((error: unknown) => problems.push(String(error)));
  }
  expect([...new Set(problems)]).toEqual([]);
});

describe('a record that is not one', () => {
  const text = (change: object): string => JSON.stringify({ ...payloads[0], file: 'a.squashfs', ...change });
  test.each([
    ['extension', { extension: '../../x' }],
    ['extension', { extension: 'x/y' }],
    ['version', { version: '../1' }],
    ['version', { version: '1\n2' }],
    ['upstream', { upstream: '-1' }],
    ['file', { file: '/etc/passwd' }],
    ['file', { file: '../x' }],
    ['file', { file: '../portable/../x' }],
    ['file', { file: '.hidden' }],
    ['sha256', { sha256: 'A'.repeat(64) }],
    ['size', { size: -1 }],
    ['releaseFileOffset', { releaseFileOffset: 1.5 }],
    ['arch', { arch: 'riscv' }],
    [
      'tree.entries.0.path',
      { tree: { digest: 'a'.repeat(64), entries: [{ path: '../x', type: 'file', mode: 0, size: 0, component: '' }] } },
    ],
    ['more', { more: true }],
    ['key', { key: undefined }],
  ])('is refused with its field: %s', (field, change) => {
    expect(() => parsePayload(text(change), 'r.json')).toThrow(`invalid payload record: ${field}: `);
  });
  test('is refused when it is not JSON', () => {
    expect(() => parsePayload('{', 'r.json')).toThrow('payload record is not JSON');
    expect(parsePayload(text({}), 'r.json').extension).toBe('extension-stager');
  });
});
