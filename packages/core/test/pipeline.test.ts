import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, cp, mkdir, mkdtemp, open, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bindMany, readBack, readContent, unpackImage } from '../src/image/bind.ts';
import { lintImage } from '../src/lint/lint.ts';
import { makeDdi, readPartitions, verifyVerity } from '../src/image/ddi.ts';
import { exec } from '../src/util/exec.ts';
import { binary, defineExtension, upstream } from '../src/definition/builders.ts';
import type { LoadedExtension } from '../src/definition/types.ts';
import { buildExtension, type BuildOptions, type BuildResult } from '../src/pipeline/build.ts';
import { ManifestSchema } from '../src/sidecars/manifest.ts';
import { sidecarPaths } from '../src/sidecars/paths.ts';
import { openStore } from '../src/store/store.ts';
import { openTools } from '../src/tools/tools.ts';
import type { Image } from '../src/model/image.ts';
import type { Payload } from '../src/model/payload.ts';
import type { Target } from '../src/model/target.ts';
import * as v from 'valibot';
import { makeImage } from './helpers/image.ts';
import { serve, type TestServer } from './helpers/server.ts';
import { targetOf } from './helpers/targets.ts';

// A small extension from a mirror of its own: two programs of upstream's, a unit, a link.
const tools = openTools(openStore());
const program = Buffer.from(`#!/bin/sh\n# ${'pad '.repeat(20_000)}\necho 1.0\n`);
const url = (name: string, arch: string): string => `https://dl.example.org/v1.0/${name}-${arch}`;
const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');
const bound = targetOf('4593.2.5');
const older = targetOf('4081.3.10');
const ddi = targetOf('4790.0.0');

let dir: string;
let server: TestServer;
let loaded: LoadedExtension;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pipeline-test-'));
  const files: Record<string, Buffer> = {};
  const bytes: Record<string, { sha256: string; proof: string }> = {};
  for (const name of ['one', 'two']) {
    for (const arch of ['amd64', 'arm64']) {
      const body = Buffer.concat([program, Buffer.from(`# ${name} ${arch}\n`)]);
      files[new URL(url(name, arch)).href.replace('https:/', '')] = body;
      bytes[url(name, arch)] = { sha256: sha256(body), proof: 'nothing published: as first downloaded' };
    }
  }
  server = await serve(files);
  const extension = join(dir, 'extension');
  await mkdir(join(extension, 'files/usr/lib/systemd/system'), { recursive: true });
  await writeFile(
    join(extension, 'files/usr/lib/systemd/system/one.service'),
    '[Service]\nExecStart=/usr/bin/one\n[Install]\nWantedBy=multi-user.target\n',
  );
  loaded = {
    dir: extension,
    fixture: false,
    extension: defineExtension({
      name: 'demo',
      summary: 'two programs',
      versions: { kind: 'date', track: 'newest' },
      components: (versions) =>
        ['one', 'two'].map((name) => binary(name, versions.version, upstream(`https://dl.example.org/v{version}/${name}-{arch}`))),
      start: ['one.service'],
    }),
    pins: { '1.0': { revision: 2, coupled: {}, licenses: { one: 'MIT', two: 'Apache-2.0 AND MIT' }, bytes } },
  };
});
afterAll(async () => {
  await server.close();
  await rm(dir, { recursive: true, force: true });
});

/** The error about an image that is damaged or cut off. */
const UNREADABLE = {
  name: 'UserError',
  message: expect.stringMatching(/^the image cannot be read: /) as unknown,
  where: expect.stringContaining('.raw') as unknown,
};

let runs = 0;
/** Options of a build for one architecture, from the test's mirror into the test's store. */
const OPTIONS = (): BuildOptions => ({
  version: '1.0',
  arch: 'x86-64',
  targets: [],
  profile: 'fast',
  origin: 'upstream',
  out: join(dir, `out${runs}`),
  store: openStore(join(dir, 'store')),
  tools,
  report: () => undefined,
  mirror: server.url,
});
async function build(targets: readonly Target[], options: Partial<BuildOptions> = {}): Promise<BuildResult> {
  runs += 1;
  return buildExtension(loaded, { ...OPTIONS(), targets, ...options });
}
const digests = ({ images }: BuildResult): string[] => images.map((image) => `${image.target} ${image.arch} ${image.sha256}`);
const modeOf = async (path: string): Promise<string> => ((await stat(path)).mode & 0o7777).toString(8);
/** The file that the record of a payload names, relative to its folder. */
async function exportedFile(folder: string): Promise<string> {
  const record = (await readdir(folder)).find((name) => name.endsWith('.payload.json')) ?? '';
  return (JSON.parse(await readFile(join(folder, record), 'utf8')) as Payload).file;
}
const only = <T>([first]: readonly T[]): T => {
  if (first === undefined) throw new Error('there is none');
  return first;
};

test('a build makes an image for each target, with all sidecars and correct sums', async () => {
  const { images, payloads } = await build(['portable', bound, ddi]);
  expect(images.map(({ target, format }) => [target, format])).toEqual([
    ['portable', 'squashfs'],
    ['4593.2.5', 'squashfs'],
    ['4790.0.0', 'ddi'],
  ]);
  expect(payloads.map(({ format }) => format)).toEqual(['squashfs', 'ddi']);
  for (const image of images) {
    expect(sha256(await readFile(image.file))).toBe(image.sha256);
    const folder = join(image.file, '..');
    execFileSync('sha256sum', ['--check', '--strict', '--quiet', 'SHA256SUMS'], { cwd: folder });
    expect(v.parse(ManifestSchema, JSON.parse(await readFile(sidecarPaths(image.file).manifest, 'utf8')))).toMatchObject({
      name: 'demo',
      version: '1.0-2',
      target: image.target,
      sha256: image.sha256,
      publishBlockers: [],
    });
  }
});

test('the bill of materials names every component with version, licence and digest', async () => {
  const { images } = await build(['portable']);
  const sbom = JSON.parse(await readFile(sidecarPaths(only(images).file).sbom, 'utf8')) as {
    spdxVersion: string;
    packages: { name: string; versionInfo?: string; licenseDeclared?: string; checksums?: { checksumValue: string }[] }[];
  };
  expect(sbom.spdxVersion).toBe('SPDX-2.3');
  const two = sbom.packages.find(({ name }) => name === 'two');
  expect(two).toMatchObject({ versionInfo: '1.0', licenseDeclared: 'Apache-2.0 AND MIT' });
  expect(two?.checksums?.[0]?.checksumValue).toBe(loaded.pins['1.0']?.bytes[url('two', 'amd64')]?.sha256);
});

test('a component may have the name of its extension, whose own files are then in the same package', async () => {
  const extension = defineExtension({
    name: 'demo',
    summary: 'one program',
    versions: { kind: 'date', track: 'newest' },
    components: ({ version }) => [binary('demo', version, upstream('https://dl.example.org/v{version}/one-{arch}'))],
    start: ['one.service'],
    waive: { 'exec-path': 'the unit is for another program' },
  });
  const pin = { revision: 0, coupled: {}, licenses: { demo: 'MIT' }, bytes: loaded.pins['1.0']?.bytes ?? {} };
  const { payloads, images } = await buildExtension(
    { ...loaded, extension, pins: { '1.0': pin } },
    { ...OPTIONS(), targets: ['portable'], out: join(dir, 'same-name') },
  );
  expect(only(payloads).components.map(({ name, origin }) => [name, origin])).toEqual([
    ['demo', 'upstream'],
    ['demo', 'files'],
  ]);
  const owned = only(payloads).tree.entries.filter(({ component, type }) => component === 'demo' && type === 'file');
  expect(owned.map(({ path }) => path)).toEqual(['usr/bin/demo', 'usr/lib/systemd/system/one.service']);
  const { packages } = JSON.parse(await readFile(sidecarPaths(only(images).file).sbom, 'utf8')) as {
    packages: { SPDXID: string; comment?: string }[];
  };
  const [shared, ...more] = packages.filter(({ SPDXID }) => SPDXID === 'SPDXRef-Component-demo');
  expect(more).toEqual([]);
  expect(shared?.comment).toMatch(/origin: upstream; .*origin: files; .*usr\/bin\/demo usr\/lib\/systemd/);
});

test('the build record names origins, pins and tools, and no path or name of this machine', async () => {
  const { images } = await build(['portable'], {
    built: {
      gitCommit: 'a'.repeat(40),
      repository: 'https://git.example.org/own/fork',
      builder: 'https://git.example.org/own/fork/w.yml@x',
    },
  });
  const text = await readFile(sidecarPaths(only(images).file).provenance, 'utf8');
  const statement = JSON.parse(text) as { _type: string; predicateType: string; subject: { digest: { sha256: string } }[] };
  expect(statement).toMatchObject({ _type: 'https://in-toto.io/Statement/v1', predicateType: 'https://slsa.dev/provenance/v1' });
  expect(only(statement.subject).digest.sha256).toBe(only(images).sha256);
  for (const word of [url('one', 'amd64'), 'squashfs-tools', 'a'.repeat(40), 'git+https://git.example.org/own/fork"', 'own/fork/w.yml@x'])
    expect(text).toContain(word);
  for (const word of [dir, tmpdir(), server.url, process.env['HOME'] ?? '/root', process.cwd()]) expect(text).not.toContain(word);
});

test('an image bound to a release differs from the portable one in one block of 4096 bytes', async () => {
  const { images, payloads } = await build(['portable', bound]);
  const [portable, other] = await Promise.all(images.map(({ file }) => readFile(file)));
  const offset = only(payloads).releaseFileOffset;
  expect(portable?.length).toBe(other?.length);
  expect(portable?.subarray(0, offset).equals(other?.subarray(0, offset) ?? Buffer.alloc(0))).toBe(true);
  expect(portable?.subarray(offset + 4096).equals(other?.subarray(offset + 4096) ?? Buffer.alloc(0))).toBe(true);
  const block = other?.subarray(offset, offset + 4096).toString();
  expect(block?.trimEnd().split('\n')).toEqual([
    'ID=flatcar',
    'VERSION_ID=4593.2.5',
    'ARCHITECTURE=x86-64',
    'SYSEXT_ID=demo',
    'SYSEXT_VERSION_ID=1.0-2',
    'EXTENSION_RELOAD_MANAGER=1',
  ]);
});

describe('same inputs, same bytes', () => {
  test.each([0o000, 0o002, 0o027, 0o077])('and public modes, in a store of its own, under umask %o', async (umask) => {
    const out = join(dir, `umask ${umask}`);
    // Only 'publish' packs tails of files together in an erofs.
    for (const profile of ['fast', 'publish'] as const) {
      const expected = digests(await build(['portable', bound, ddi], { profile }));
      const before = process.umask(umask);
      try {
        const store = openStore(join(dir, `${profile} store of umask ${umask}`));
        expect(digests(await build(['portable', bound, ddi], { profile, out, store }))).toEqual(expected);
      } finally {
        process.umask(before);
      }
    }
    for (const entry of await readdir(out, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      expect(`${path} ${await modeOf(path)}`).toBe(`${path} ${entry.isDirectory() ? '755' : '644'}`);
    }
    expect(await modeOf(out)).toBe('755');
  });

  test('on two runs, in two stores and folders, under another umask, time zone and locale', async () => {
    const first = await build(['portable', bound, ddi]);
    const before = process.umask(0o077);
    const kept = { TZ: process.env['TZ'], LC_ALL: process.env['LC_ALL'] };
    Object.assign(process.env, { TZ: 'Pacific/Kiritimati', LC_ALL: 'tr_TR.UTF-8', SOURCE_DATE_EPOCH: '1' });
    try {
      const moved = join(dir, 'another place', 'extension');
      await cp(loaded.dir, moved, { recursive: true });
      const was = loaded;
      loaded = { ...was, dir: moved };
      try {
        const second = await build(['portable', bound, ddi], { store: openStore(join(dir, 'other store')) });
        expect(digests(second)).toEqual(digests(first));
      } finally {
        loaded = was;
      }
    } finally {
      process.umask(before);
      delete process.env['SOURCE_DATE_EPOCH'];
      for (const [key, value] of Object.entries(kept)) {
        if (value === undefined) delete process.env[key];
        else process.env[key] = value;
      }
    }
  });

  test('of the other architecture and profile too, and these differ', async () => {
    const seen = new Set<string>();
    for (const arch of ['x86-64', 'arm64'] as const) {
      for (const profile of ['fast', 'publish'] as const) {
        const [one, two] = [
          await build(['portable', ddi], { arch, profile }),
          await build(['portable', ddi], { arch, profile, store: openStore(join(dir, `store ${arch} ${profile}`)) }),
        ];
        expect(digests(two)).toEqual(digests(one));
        for (const image of one.images) seen.add(image.sha256);
      }
    }
    expect(seen.size).toBe(8);
  });

  test('a second build fetches nothing and packs nothing', async () => {
    await build(['portable']);
    const asked = server.asked.length;
    const steps: string[] = [];
    await build(['portable'], { report: (event) => void (event.type === 'step' && steps.push(event.text)) });
    expect(server.asked).toHaveLength(asked);
    expect(steps.filter((step) => /packing|staging|fetching/.test(step))).toEqual([]);
  });
});

describe('reading back refuses', () => {
  let payload: Payload;
  let image: Image;
  let copy: string;
  beforeAll(async () => {
    const built = await build([bound]);
    payload = only(built.payloads);
    image = only(built.images);
    copy = join(dir, 'damaged.raw');
  });
  const damage = async (how: (file: string) => Promise<unknown>): Promise<Error> => {
    await cp(image.file, copy, { force: true });
    await how(copy);
    return readBack(copy, payload, bound).then(
      () => new Error('it was accepted'),
      (error: unknown) => error as Error,
    );
  };
  const write =
    (offset: number, data: string | Buffer) =>
    async (file: string): Promise<void> => {
      const handle = await open(file, 'r+');
      await handle.write(Buffer.from(data), 0, data.length, offset);
      await handle.close();
    };

  test('nothing of a good image', async () => {
    await expect(readBack(image.file, payload, bound)).resolves.toBeUndefined();
  });
  test('another release', async () => {
    await expect(readBack(image.file, payload, older)).rejects.toThrow(/release file has a different text/);
  });
  test('one flipped byte of the release file', async () => {
    expect((await damage(write(payload.releaseFileOffset + 20, '9'))).message).toMatch(/release file has a different text/);
  });
  test('an image that lost its padding', async () => {
    const cut = damage(async (file) => truncate(file, Math.floor((await stat(file)).size * 0.6)));
    const message = expect.stringMatching(/^the packed image does not match the staged tree: it is \d+ bytes long/) as unknown;
    expect(await cut).toMatchObject({ name: 'UserError', message, where: copy });
  });
  test('an image that lost its tables', async () => {
    expect(await damage(async (file) => truncate(file, 1000))).toMatchObject(UNREADABLE);
  });
  test.each([
    ['an inode table outside of the file', 64, Buffer.alloc(8, 0x7f)],
    ['a directory table outside of the file', 72, Buffer.alloc(8, 0x7f)],
    ['another compression', 20, Buffer.from([9, 0])],
    ['no magic', 0, Buffer.from('nope')],
  ])('a superblock with %s', async (_, offset, bytes) => {
    expect(await damage(write(offset, bytes))).toMatchObject(UNREADABLE);
  });
  test('metadata that is noise, whatever the noise', async () => {
    const { size } = await stat(image.file);
    let refused = 0;
    for (let seed = 0; seed < 40; seed += 1) {
      const at = 96 + Math.floor((((seed * 2_654_435_761) % 2 ** 32) / 2 ** 32) * (size - 200));
      const error = await damage(write(at, createHash('sha256').update(String(seed)).digest()));
      if (error.message !== 'it was accepted') refused += 1;
      // File data is compared when a payload is packed; metadata each time: what was accepted lists what was meant.
      else expect((await readContent(copy, 'squashfs', 'x86-64')).entries).toHaveLength(payload.tree.entries.length);
    }
    expect(refused).toBeGreaterThan(5);
  });
});

describe('binding', () => {
  test('needs the payload and its record only, writes each image whole, and leaves nothing else', async () => {
    const { payloads, images } = await build(['portable']);
    const out = join(dir, 'bound');
    await mkdir(out);
    const jobs = [bound, older].map((target) => ({ target, out: join(out, `${target.number}.raw`) }));
    const made = await bindMany(only(payloads), only(images).file, jobs, { tools, store: openStore(join(dir, 'store')) });
    expect((await readdir(out)).toSorted()).toEqual(['4081.3.10.raw', '4593.2.5.raw']);
    expect(new Set(made.map((image) => image.sha256)).size).toBe(2);
  });
  test.each(['squashfs', 'ddi'] as const)('reads a payload that nobody may write, as the blobs of the store are: %s', async (format) => {
    const { payloads } = await build([format === 'squashfs' ? 'portable' : ddi], { out: join(dir, `blob ${format}`) });
    const payload = only(payloads);
    const file = join(dir, `blob.${format}`);
    await rm(file, { force: true });
    await cp(join(dir, `blob ${format}`, 'payload', await exportedFile(join(dir, `blob ${format}`, 'payload'))), file);
    await chmod(file, 0o444);
    const out = join(dir, `of a blob.${format}`);
    const [image] = await bindMany(payload, file, [{ target: format === 'squashfs' ? bound : ddi, out }], {
      tools,
      store: openStore(join(dir, 'store')),
    });
    expect(image).toMatchObject({ format });
    expect(await modeOf(out)).toBe('644');
  });
  test('to a release of the other format is refused with what to do', async () => {
    const { payloads, images } = await build(['portable']);
    const job = [{ target: ddi, out: join(dir, 'never.raw') }];
    await expect(bindMany(only(payloads), only(images).file, job, { tools, store: openStore(join(dir, 'store')) })).rejects.toThrow(
      /takes ddi images/,
    );
  });
  test('of a payload that was damaged since leaves no image', async () => {
    const { payloads, images } = await build(['portable']);
    const file = join(dir, 'cut.raw');
    await cp(only(images).file, file);
    await truncate(file, only(payloads).releaseFileOffset - 100);
    const out = join(dir, 'nothing');
    await mkdir(out);
    await expect(
      bindMany(only(payloads), file, [{ target: bound, out: join(out, 'a.raw') }], { tools, store: openStore(join(dir, 'store')) }),
    ).rejects.toThrow();
    expect(await readdir(out)).toEqual([]);
  });
});

describe('unpacking', () => {
  test('of an erofs with a damaged superblock, of which fsck.erofs extracts nothing and reports success, is an error', async () => {
    const { images } = await build([ddi]);
    const file = join(dir, 'damaged.erofs.raw');
    await cp(only(images).file, file);
    const root = only(await readPartitions(file));
    const handle = await open(file, 'r+');
    await handle.write(Buffer.from('damaged'), 0, 7, root.offset + 1024 + 4); // the checksum of the superblock, and what follows it
    await handle.close();
    await expect(unpackImage(tools, file, 'ddi', 'x86-64', join(dir, 'unpacked erofs'))).rejects.toThrow(
      'the superblock does not match its checksum',
    );
  });

  test('leaves out devices, which only root may create, and sets the modes of the image', async () => {
    const at = join(dir, 'special');
    await mkdir(at);
    const content = { files: { 'usr/bin/a': 'a', 'usr/share/b c': 'b' }, modes: { 'usr/bin/a': 0o755, 'usr/share/b c': 0o600 } };
    const image = await makeImage(tools, at, {
      ...content,
      pseudo: ['usr/bin/null c 666 root root 1 3', 'usr/share/gone c 0 root root 0 0'],
    });
    const to = join(at, 'unpacked');
    const before = process.umask(0o027);
    try {
      await unpackImage(tools, image, 'squashfs', 'x86-64', to);
    } finally {
      process.umask(before);
    }
    const { entries } = await readContent(image, 'squashfs', 'x86-64');
    const special = entries.filter(({ type }) => type === 'char').map(({ path }) => path);
    expect(special).toEqual(['usr/bin/null', 'usr/share/gone']);
    expect((await readdir(to, { recursive: true })).toSorted()).toEqual(
      entries
        .map(({ path }) => path)
        .filter((path) => !special.includes(path))
        .toSorted(),
    );
    for (const { path, mode } of entries.filter(({ type }) => type !== 'char'))
      expect(`${path} ${await modeOf(join(to, path))}`).toBe(`${path} ${mode.toString(8)}`);
  });
});

describe('disk images', () => {
  let image: Image;
  let keys: { key: string; certificate: string };
  beforeAll(async () => {
    keys = { key: join(dir, 'key.pem'), certificate: join(dir, 'certificate.pem') };
    await exec(
      'openssl',
      ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=test', '-days', '2', '-keyout', keys.key, '-out', keys.certificate],
      { next: 'install openssl' },
    );
    image = only((await build([ddi])).images);
  });

  test('have the roothash that dm-verity computes, by our own reckoning too', async () => {
    expect(image.roothash).toMatch(/^[0-9a-f]{64}$/);
    expect(await verifyVerity(image.file, 'x86-64')).toBe(image.roothash);
    expect(image.signed).toBe(false);
  });

  test('are linted by their own bytes: a good one passes, and one for another release does not', async () => {
    const subject = { name: 'demo', kind: 'sysext', arch: 'x86-64', target: ddi } as const;
    const good = await lintImage(image.file, 'ddi', subject, { tools, store: openStore(join(dir, 'store')) });
    expect(good.findings).toEqual([]);
    expect(good.tree.entries.map(({ path }) => path)).toContain('usr/bin/one');
    const target = { ...ddi, number: '4790.1.0' };
    const { findings } = await lintImage(image.file, 'ddi', { ...subject, target }, { tools, store: openStore(join(dir, 'store')) });
    expect(findings.map(({ rule }) => rule)).toEqual(['bound-id']);
  });

  test('with one flipped byte are found out', async () => {
    const copy = join(dir, 'flipped.raw');
    await cp(image.file, copy);
    const [root] = await readPartitions(copy);
    const at = (root?.offset ?? 0) + 5000;
    const handle = await open(copy, 'r+');
    const byte = Buffer.alloc(1);
    await handle.read(byte, 0, 1, at);
    await handle.write(Buffer.from([byte.readUInt8(0) ^ 1]), 0, 1, at);
    await handle.close();
    await expect(verifyVerity(copy, 'x86-64')).rejects.toThrow(/damaged/);
  });

  test('are signed when a key is given: the same bytes twice, and openssl takes the signature', async () => {
    const [one, two] = [await build([ddi], { sign: keys }), await build([ddi], { sign: keys })];
    expect(digests(one)).toEqual(digests(two));
    const signed = only(one.images);
    expect(signed).toMatchObject({ signed: true, roothash: image.roothash });
    // The signature partition is JSON: rootHash, certificateFingerprint, signature as DER in base64 (UAPI.2).
    const bytes = await readFile(signed.file);
    const at = bytes.lastIndexOf('{"rootHash"');
    const json = JSON.parse(bytes.subarray(at, bytes.indexOf(0, at)).toString()) as { rootHash: string; signature: string };
    expect(json.rootHash).toBe(signed.roothash);
    const [signature, content] = [join(dir, 'signature.der'), join(dir, 'roothash')];
    await writeFile(signature, Buffer.from(json.signature, 'base64'));
    const verify = (text: string): string => {
      execFileSync('sh', ['-c', `printf %s "$0" > "$1"`, text, content]);
      return execFileSync(
        'openssl',
        [
          'cms',
          '-verify',
          '-inform',
          'DER',
          '-in',
          signature,
          '-content',
          content,
          '-binary',
          '-certfile',
          keys.certificate,
          '-nointern',
          '-noverify',
        ],
        { stdio: ['ignore', 'pipe', 'pipe'] },
      ).toString();
    };
    expect(verify(json.rootHash)).toBe(json.rootHash);
    expect(() => verify('0'.repeat(64))).toThrow();
  });

  test('with a key that cannot be read are not made', async () => {
    await expect(build([ddi], { sign: { ...keys, key: join(dir, 'no.pem') } })).rejects.toThrow(/key or certificate cannot be read/);
  });

  test('of hostile size claims are refused by the reader', async () => {
    const copy = join(dir, 'table.raw');
    await cp(image.file, copy);
    const handle = await open(copy, 'r+');
    await handle.write(Buffer.from([0xff, 0xff, 0xff, 0xff]), 0, 4, 512 + 80);
    await handle.close();
    await expect(verifyVerity(copy, 'x86-64')).rejects.toThrow(/damaged/);
  });

  test('cannot be made from a path that is not a file', async () => {
    await expect(makeDdi(tools, join(dir, 'nothing'), { arch: 'x86-64', seed: 'x' }, join(dir, 'x.raw'))).rejects.toThrow();
  });
});
