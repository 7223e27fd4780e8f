// Small real files to begin with, written by the pinned tools or from this repository.
import { createHash, createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { deflateSync, gzipSync } from 'node:zlib';
import {
  makeDdi,
  openStore,
  openTools,
  packErofs,
  packSquashfs,
  readTree,
  stageReleaseFile,
  STRICT_XATTR,
  type Tools,
} from '@flatcar/core/engine';
import { debOf, pax, tarOf, zipOf } from '@flatcar/core/test/archives';
import { generateKey, signDetached, readPrivateKeys } from '@flatcar/publish/keys/openpgp';
import { writePayload } from '@flatcar/publish';

export const repository = fileURLToPath(new URL('../..', import.meta.url));

/** Files of this repository. */
export const filesOf = (...paths: readonly string[]): Promise<Buffer[]> =>
  Promise.all(paths.map((path) => readFile(join(repository, path))));

const tools = (): Tools => openTools(openStore());

/** A 64-bit ELF file of some sections (System V ABI, chapter 4): header, their bytes, section names, section headers. */
export function elfWith(sections: Readonly<Record<string, Buffer>>): Buffer {
  const parts = [...Object.entries(sections), ['.shstrtab', Buffer.alloc(0)] as const];
  const names = Buffer.from(`\0${parts.map(([name]) => name).join('\0')}\0`);
  const header = Buffer.alloc(64);
  const headers: Buffer[] = [Buffer.alloc(64)];
  const content: Buffer[] = [];
  let [offset, nameAt] = [64, 1];
  for (const [name, bytes] of parts) {
    const body = name === '.shstrtab' ? names : bytes;
    const one = Buffer.alloc(64);
    one.writeUInt32LE(nameAt, 0);
    one.writeBigUInt64LE(BigInt(offset), 24);
    one.writeBigUInt64LE(BigInt(body.length), 32);
    headers.push(one);
    content.push(body);
    offset += body.length;
    nameAt += name.length + 1;
  }
  Buffer.from('7f454c46020101', 'hex').copy(header);
  header.writeUInt16LE(2, 16);
  header.writeUInt16LE(62, 18);
  header.writeBigUInt64LE(BigInt(offset), 40);
  header.writeUInt16LE(headers.length, 60);
  header.writeUInt16LE(headers.length - 1, 62);
  return Buffer.concat([header, ...content, ...headers]);
}

/** A dynamic program: that of a pinned tool, which is in the store. */
export async function program(): Promise<Buffer> {
  const { command, args } = await tools().command('unsquashfs');
  return readFile(args.at(-1) ?? command);
}

/** What Go's linker writes (runtime/debug.BuildInfo), and what cargo auditable does. */
export function stamped(): Buffer[] {
  const string = (text: string): Buffer =>
    Buffer.concat([
      Buffer.from(
        Buffer.byteLength(text) < 128 ? [Buffer.byteLength(text)] : [(Buffer.byteLength(text) & 0x7f) | 0x80, Buffer.byteLength(text) >> 7],
      ),
      Buffer.from(text),
    ]);
  const info = `${'x'.repeat(16)}path\texample.org/tool\nmod\texample.org/tool\tv1.2.3\th1:x\ndep\texample.org/a\tv0.1.0\n=>\texample.org/b\tv0.2.0\th1:y\nbuild\tCGO_ENABLED=0\n${'y'.repeat(16)}`;
  const go = Buffer.concat([Buffer.from('\xff Go buildinf:\x08\x02', 'latin1'), Buffer.alloc(16), string('go1.25.1'), string(info)]);
  const crates = {
    packages: [
      { name: 'memchr', version: '2.7.4', source: 'crates.io' },
      { name: 'cc', version: '1.2.0', source: 'crates.io', kind: 'build' },
    ],
  };
  return [
    elfWith({ '.go.buildinfo': go }),
    elfWith({ '.dep-v0': deflateSync(JSON.stringify(crates)) }),
    elfWith({ '.go.buildinfo': go, '.dep-v0': deflateSync('{}') }),
  ];
}

async function stage(dir: string): Promise<Awaited<ReturnType<typeof readTree>>> {
  const tree = join(dir, 'tree');
  await mkdir(join(tree, 'usr/bin'), { recursive: true });
  await mkdir(join(tree, 'usr/share/demo/a/b'), { recursive: true });
  await writeFile(join(tree, 'usr/bin/demo'), '#!/bin/sh\necho demo\n', { mode: 0o755 });
  await writeFile(join(tree, 'usr/share/demo/a/b/data'), Buffer.alloc(9000, 'data'));
  for (let index = 0; index < 20; index += 1) await writeFile(join(tree, `usr/share/demo/a/file-${index}`), String(index));
  const { symlink } = await import('node:fs/promises');
  await symlink('../share/demo/a/b/data', join(tree, 'usr/bin/link'));
  await stageReleaseFile(tree, { name: 'demo', kind: 'sysext', version: '1.0', arch: 'x86-64', target: 'portable', reload: false });
  return readTree(tree, new Map());
}

/** Squashfs images: as we pack them, and with metadata that is not packed. */
export async function squashfsImages(dir: string): Promise<Buffer[]> {
  const tree = await stage(dir);
  const [packed, plain] = [join(dir, 'packed'), join(dir, 'plain')];
  await packSquashfs(tools(), tree, { name: 'demo', kind: 'sysext', profile: 'fast' }, packed);
  await tools().run('mksquashfs', [
    tree.dir,
    plain,
    '-noappend',
    '-quiet',
    '-no-progress',
    '-all-root',
    '-comp',
    'zstd',
    '-noI',
    '-noD',
    '-noF',
    '-noX',
    '-xattrs-include',
    STRICT_XATTR,
    '-p',
    'usr/null c 666 0 0 1 3',
  ]);
  return Promise.all([readFile(packed), readFile(plain)]);
}

/** Erofs images of both profiles, and with attributes that are shared. */
export async function erofsImages(dir: string): Promise<Buffer[]> {
  const tree = await stage(dir);
  const images: Buffer[] = [];
  for (const profile of ['fast', 'publish'] as const) {
    const out = join(dir, profile);
    await packErofs(tools(), tree, { name: 'demo', kind: 'sysext', profile }, out);
    images.push(await readFile(out));
  }
  const plain = join(dir, 'plain');
  await tools().run('mkfs.erofs', ['--quiet', '-x1', '-T0', '--all-root', plain, tree.dir]);
  return [...images, await readFile(plain)];
}

/** A disk image as bind makes it, of an erofs of a few files. */
export async function diskImages(dir: string): Promise<Buffer[]> {
  const [erofs] = await erofsImages(dir);
  const [file, out] = [join(dir, 'root.erofs'), join(dir, 'disk')];
  await writeFile(file, erofs ?? '');
  await makeDdi(tools(), file, { arch: 'x86-64', seed: 'fuzz' }, out);
  return [await readFile(out)];
}

/** An update payload, and beside it the key that signed it. */
export async function updatePayloads(dir: string): Promise<Buffer[]> {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  await writeFile(join(dir, 'update.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
  const image = Buffer.alloc(8192, 'image');
  const [file, out] = [join(dir, 'image'), join(dir, 'payload')];
  await writeFile(file, image);
  await writePayload({ file, sha256: createHash('sha256').update(image).digest('hex') }, out, [
    createPrivateKey(await readFile(join(dir, 'update.pem'))),
  ]);
  return [await readFile(out)];
}

/** What the signatures of the seeds are over. */
export const SIGNED = Buffer.from('Origin: Debian\nSuite: stable\nCodename: trixie\nDate: Sat, 15 Nov 2025 10:00:00 UTC\n');

/** Keys and signatures by them: `keys.asc` is the public key, `fingerprint` its fingerprint. */
export async function signatures(dir: string): Promise<{ detached: Buffer[]; clear: Buffer[]; armoredKeys: Buffer[]; keyring: Buffer[] }> {
  const openpgp = await import('openpgp');
  const { privateKey, publicKey } = await generateKey('fuzz');
  const keys = await readPrivateKeys(privateKey, 'fuzz');
  const detached = await signDetached(SIGNED, keys);
  const clear = await openpgp.sign({ message: await openpgp.createCleartextMessage({ text: SIGNED.toString() }), signingKeys: keys });
  const key = await openpgp.readKey({ armoredKey: publicKey });
  await writeFile(join(dir, 'keys.asc'), publicKey);
  await writeFile(join(dir, 'fingerprint'), key.getFingerprint());
  const armored = Buffer.from(openpgp.armor(openpgp.enums.armor.signature, new Uint8Array(detached)));
  return {
    detached: [detached, armored],
    clear: [Buffer.from(clear)],
    armoredKeys: [Buffer.from(publicKey)],
    keyring: [Buffer.from(key.write())],
  };
}

/** Tars with every kind of entry and header that is taken. */
export function tars(): Buffer[] {
  const file = { path: 'x', body: 'hello' };
  const links = [
    { path: 'l', type: '2', link: 'd/x' },
    { path: 'h', type: '1', link: 'd/x' },
  ];
  const long = [
    { path: 'L', type: 'L', body: 'long\0' },
    { path: 'y', body: 'yy'.repeat(400) },
  ];
  return [tarOf([{ path: 'd/', type: '5' }, pax({ path: 'd/x', mtime: '1' }), file, ...links, ...long]), tarOf([file])];
}

/** Zip files with stored, deflated and streamed entries. */
export function zips(): Buffer[] {
  const deflated = { path: 'd/a', body: 'text'.repeat(50), deflated: true };
  return [
    zipOf([{ path: 'd/', mode: 0o040755 }, deflated]),
    zipOf([
      { ...deflated, descriptor: true },
      { path: 'b', body: 'x' },
    ]),
  ];
}

/** Debian packages, plain and compressed. */
export function debs(): Buffer[] {
  return tars().flatMap((tar) => [debOf(tar), debOf(gzipSync(tar), { suffix: '.gz' })]);
}
