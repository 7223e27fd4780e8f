import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  binary,
  buildExtension,
  defineExtension,
  exec,
  openStore,
  openTools,
  upstream,
  selectTargets,
  sidecarPaths,
  targetOfImage,
  UserError,
  type Component,
  type Image,
  type LoadedExtension,
  type Manifest,
  type SignKeys,
} from '@flatcar/core/engine';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { readImageFile } from '@flatcar/workspace/image-file';
import { rebuildImage } from '@flatcar/workspace/rebuild';
import { compareImages } from '@flatcar/workspace/diff';
import { verifyImage } from '@flatcar/workspace/verify-image';

const [ddi] = selectTargets('4790.0.0');
const locator = 'https://dl.example.org/v1.0/upstream';
const program = Buffer.from('#!/bin/sh\necho upstream\n');
const store = openStore();
const tools = openTools(store);
const report = (): void => undefined;
let dir: string;
let server: Server;
let mirror: string;
let loaded: LoadedExtension;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'rebuild-'));
  server = createServer((_, response) => void response.end(program));
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  mirror = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  server.close();
  await rm(dir, { recursive: true, force: true });
});

let count = 0;
beforeEach(async () => {
  count += 1;
  const at = join(dir, `extension${count}`);
  await mkdir(join(at, 'files/usr/share/mixed'), { recursive: true });
  await writeFile(join(at, 'files/usr/share/mixed/own'), 'own\n');
  await mkdir(join(at, 'second'), { recursive: true });
  await writeFile(join(at, 'second/second'), '#!/bin/sh\necho ours\n');
  // Of the second component upstream's own program is preferred, and what the image holds is not it.
  const second: Component = {
    name: 'second',
    version: '1.0',
    origins: [upstream(locator), { kind: 'files', dir: 'second' }],
    install: [{ from: 'second', to: 'usr/bin/' }],
  };
  loaded = {
    dir: at,
    fixture: false,
    pins: {
      '1.0': {
        revision: 2,
        coupled: {},
        licenses: { first: 'MIT', second: 'MIT' },
        bytes: {
          [locator]: { sha256: createHash('sha256').update(program).digest('hex'), proof: 'nothing published: as first downloaded' },
        },
      },
    },
    extension: defineExtension({
      name: 'mixed',
      summary: 'a program of upstream, and one that is not',
      versions: { kind: 'date', track: 'newest' },
      components: ({ version }) => [binary('first', version ?? '', upstream(locator)), second],
    }),
  };
});

/** Images of both formats, the second component by another origin than the first; with a commit in their build records. */
async function build(options: { only?: string[]; sign?: SignKeys; commit?: string; out?: string } = {}): Promise<readonly Image[]> {
  const { only, sign, commit, out = join(dir, `out${count}`) } = options;
  const { images } = await buildExtension(loaded, {
    version: '1.0',
    arch: 'x86-64',
    targets: ['portable', ddi!],
    profile: 'fast',
    out,
    store,
    tools,
    report,
    mirror,
    only,
    sign,
    origin: only === undefined ? ['upstream', 'files', 'files'] : ['upstream', 'files'],
    built: { gitCommit: commit },
  });
  return images;
}

async function rebuild(file: string, commit?: string): Promise<string> {
  return rebuildImage(await readImageFile(file), { loaded, commit, store, report, mirror });
}
const refusal = (file: string, commit?: string): Promise<UserError> =>
  rebuild(file, commit).then(
    (said) => new UserError(`it was accepted: ${said}`),
    (error: unknown) => error as UserError,
  );
async function changeManifest(file: string, change: (manifest: Manifest) => object): Promise<void> {
  const path = sidecarPaths(file).manifest;
  const manifest = JSON.parse(await readFile(path, 'utf8')) as Manifest;
  await writeFile(path, JSON.stringify({ ...manifest, ...change(manifest) }));
}

test('images of mixed origins are rebuilt, each component by its own: portable, a disk image, and one of a release that left the catalogue', async () => {
  for (const { file } of await build()) expect(await rebuild(file)).toBe('rebuilt from nothing: the same bytes');
  const [gone] = (
    await buildExtension(loaded, {
      version: '1.0',
      arch: 'x86-64',
      targets: [targetOfImage('3815.2.99', 'squashfs')],
      profile: 'fast',
      out: join(dir, 'gone'),
      store,
      tools,
      report,
      mirror,
      origin: ['upstream', 'files', 'files'],
    })
  ).images;
  expect(gone?.target).toBe('3815.2.99');
  expect(await rebuild(gone?.file ?? '')).toBe('rebuilt from nothing: the same bytes');
});

test('an image of some components only is rebuilt of these', async () => {
  for (const { file } of await build({ only: ['first'] })) expect(await rebuild(file)).toBe('rebuilt from nothing: the same bytes');
});

test('of a signed disk image all but the signature is compared', async () => {
  const sign = { key: join(dir, 'key.pem'), certificate: join(dir, 'certificate.pem') };
  await exec(
    'openssl',
    ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=test', '-days', '2', '-keyout', sign.key, '-out', sign.certificate],
    { next: 'install openssl' },
  );
  const signed = (await build({ sign })).find(({ format }) => format === 'ddi');
  expect(signed?.signed).toBe(true);
  expect(await rebuild(signed?.file ?? '')).toContain('the same roothash');
  await changeManifest(signed?.file ?? '', () => ({ roothash: '0'.repeat(64) }));
  expect((await refusal(signed?.file ?? '')).message).toMatch(/the rebuilt image has sha256/);
});

test('an image of other bytes is found out, whatever its manifest says', async () => {
  const own = join(loaded.dir, 'second/second');
  const before = await readFile(own);
  await writeFile(own, '#!/bin/sh\necho tampered\n');
  const images = await build({ commit: 'a'.repeat(40) });
  await writeFile(own, before);
  for (const { file } of images) {
    const error = await refusal(file, 'a'.repeat(40));
    expect(error).toMatchObject({
      message: expect.stringMatching(/^the rebuilt image has sha256 [0-9a-f]{64}, this one/) as string,
      where: file,
    });
    expect(error.next).toContain('not reproducible');
    expect((await refusal(file, 'b'.repeat(40))).next).toContain(`commit ${'a'.repeat(40)}`);
  }
});

test('an image that this checkout does not make is told apart, with the commit that made it', async () => {
  const [image] = await build({ commit: 'c'.repeat(40) });
  const file = image?.file ?? '';
  const where = { where: file, next: expect.stringContaining('c'.repeat(40)) as string };
  await changeManifest(file, () => ({ revision: 1, version: '1.0-1' }));
  expect(await refusal(file)).toMatchObject({ message: 'this checkout pins revision 2 of mixed 1.0, and the image is 1.0-1', ...where });
  await changeManifest(file, ({ components }) => ({
    revision: 2,
    version: '1.0-2',
    components: components.map((one) => (one.name === 'second' ? { ...one, version: '0.9' } : one)),
  }));
  expect((await refusal(file)).message).toContain('and the image contains first 1.0, second 0.9, mixed 1.0-2');
  await changeManifest(file, ({ components }) => ({
    components: components.map((one) => (one.name === 'second' ? { ...one, version: '1.0', origin: 'cargo' } : one)),
  }));
  expect((await refusal(file)).message).toContain("second 1.0 has no origin of the kind 'cargo': its definition has upstream, files");
  await rm(sidecarPaths(file).provenance);
  await changeManifest(file, () => ({ upstream: '0.1' }));
  expect(await refusal(file)).toMatchObject({ message: 'the image has no build record beside it', where: sidecarPaths(file).provenance });
});

test('an image is verified by its sums, its manifest and its own hashes; each that is wrong is named', async () => {
  const [squashfs, disk] = await build();
  const [file, ddiFile] = [squashfs?.file ?? '', disk?.file ?? ''];
  expect(await verifyImage(file)).toEqual(['sums, manifest, metadata']);
  expect(await verifyImage(ddiFile)).toEqual(['sums, manifest, metadata', 'verity roothash']);
  await changeManifest(ddiFile, () => ({ roothash: 'a'.repeat(64) }));
  await expect(verifyImage(ddiFile)).rejects.toThrow(`the manifest lists ${'a'.repeat(64)}`);
  await changeManifest(file, () => ({ sha256: 'b'.repeat(64) }));
  await expect(verifyImage(file)).rejects.toThrow('the manifest is for another image');
  const sums = join(file, '../SHA256SUMS');
  await writeFile(sums, (await readFile(sums, 'utf8')).replaceAll(/^[0-9a-f]{64}/gm, 'c'.repeat(64)));
  await expect(verifyImage(file)).rejects.toThrow(`SHA256SUMS lists ${'c'.repeat(64)}`);
  await rm(sums);
  await expect(verifyImage(file)).rejects.toThrow('the image is not in SHA256SUMS');
});

test('the difference of two images has versions, files with their modes, and sizes', async () => {
  const [whole] = await build();
  const [part] = await build({ only: ['first'], out: join(dir, `part${count}`) });
  const difference = await compareImages(whole?.file ?? '', part?.file ?? '');
  expect(difference.versions).toContainEqual({ component: 'second', before: '1.0', after: '' });
  expect(difference.files).toContainEqual(expect.objectContaining({ what: 'removed', path: 'usr/bin/second', after: 0 }));
  expect(difference.files.every(({ path }) => path !== 'usr/bin/first')).toBe(true);
  expect(difference.size).toEqual({ before: whole?.size, after: part?.size });
});
