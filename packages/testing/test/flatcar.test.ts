import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { channelHead, exec, openStore, openTools, type Store } from '@flatcar/core/engine';
import { generateKey, sign, createMessage, readKey, readPrivateKey } from 'openpgp';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { flatcarImage, OFFICIAL, type ImageServer } from '../src/machine/flatcar.ts';

const release = channelHead('stable');
const BYTES = Buffer.alloc(300_000, 'an image of Flatcar ');

async function newKey(): Promise<{ armored: string; fingerprint: string; sign: (bytes: Buffer) => Promise<Buffer> }> {
  const { privateKey, publicKey } = await generateKey({ type: 'ecc', curve: 'ed25519Legacy', userIDs: [{ name: 'test' }] });
  const signingKeys = await readPrivateKey({ armoredKey: privateKey });
  return {
    armored: publicKey,
    fingerprint: (await readKey({ armoredKey: publicKey })).getFingerprint(),
    sign: async (bytes) =>
      Buffer.from(
        await sign({ message: await createMessage({ binary: new Uint8Array(bytes) }), signingKeys, detached: true, format: 'binary' }),
      ),
  };
}

describe('the image of a Flatcar release', () => {
  let dir: string;
  let server: Server;
  let base: string;
  let ours: Awaited<ReturnType<typeof newKey>>;
  let foreign: Awaited<ReturnType<typeof newKey>>;
  let packed: Buffer;
  /** What the server has, by path. */
  const files = new Map<string, Buffer>();
  /** Requests, with the first byte that was asked for. */
  const asked: string[] = [];
  /** Where the server breaks the next answer that is an image off. */
  let breaksAt: number | undefined;
  const image = '/amd64-usr/' + release.number + '/flatcar_production_qemu_image.img';

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'flatcar-'));
    [ours, foreign] = [await newKey(), await newKey()];
    const plain = join(dir, 'plain');
    await writeFile(plain, BYTES);
    await openTools(openStore()).run('bzip2', ['-k', plain]);
    packed = await readFile(`${plain}.bz2`);
    server = createServer((request, response) => {
      const path = request.url ?? '';
      const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      asked.push(`${path.split('/').at(-1)} ${from}`);
      const bytes = files.get(path);
      if (bytes === undefined) return void response.writeHead(404).end();
      response.writeHead(from > 0 ? 206 : 200, {
        'content-length': bytes.length - from,
        etag: '"1"',
        ...(from > 0 ? { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {}),
      });
      if (breaksAt === undefined || path.endsWith('.sig') || path === '/key') return void response.end(bytes.subarray(from));
      response.write(bytes.subarray(from, breaksAt), () => setTimeout(() => response.destroy(), 500)); // once it has been written down
      breaksAt = undefined;
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(async () => {
    server.close();
    await rm(dir, { recursive: true, force: true });
  });

  let store: Store;
  beforeEach(async () => {
    files.clear();
    asked.length = 0;
    breaksAt = undefined;
    store = openStore(await mkdtemp(join(dir, 'store-')));
    files.set('/key', Buffer.from(ours.armored));
    files.set(image, BYTES);
    files.set(`${image}.sig`, await ours.sign(BYTES));
  });
  const from = (): ImageServer => ({
    folder: ({ number }, board) => `${base}/${board}/${number}`,
    key: `${base}/key`,
    fingerprint: ours.fingerprint,
  });
  const fetched = async (): Promise<string> => flatcarImage(store, openTools(openStore()), release, 'x86-64', from());
  const kept = async (): Promise<string[]> =>
    (await exec('find', [store.root, '-type', 'f', '-size', '+100k'])).split('\n').filter((line) => line !== '');

  test('is fetched and verified once', async () => {
    const path = await fetched();
    expect(await readFile(path)).toEqual(BYTES);
    expect(await kept()).toEqual([path]);
    asked.length = 0;
    expect(await fetched()).toBe(path);
    expect(asked).toEqual([]);
  });

  test('is unpacked where the server has it packed only', async () => {
    files.delete(image);
    files.delete(`${image}.sig`);
    files.set(`${image}.bz2`, packed);
    files.set(`${image}.bz2.sig`, await ours.sign(packed));
    const path = await fetched();
    expect(await readFile(path)).toEqual(BYTES);
    expect(await readdir(join(path, '..'))).toEqual(['image']);
  });

  test('that was changed on the way is refused, and not kept', async () => {
    const changed = Buffer.from(BYTES);
    changed.writeUInt8(0, 200_000);
    files.set(image, changed);
    await expect(fetched()).rejects.toThrow('bad PGP signature');
    expect(await kept()).toEqual([]);
    files.set(image, BYTES);
    expect(await readFile(await fetched())).toEqual(BYTES);
  });

  test('that is shorter than what was signed is refused', async () => {
    files.set(image, BYTES.subarray(0, 250_000));
    await expect(fetched()).rejects.toThrow('bad PGP signature');
    expect(await kept()).toEqual([]);
  });

  test('signed by another key is refused, and so is another key in the place of the pinned one', async () => {
    files.set(`${image}.sig`, await foreign.sign(BYTES));
    await expect(fetched()).rejects.toThrow('which is not pinned');
    files.set('/key', Buffer.from(foreign.armored));
    await expect(fetched()).rejects.toThrow(`has no key 0x${ours.fingerprint.toUpperCase()}`);
  });

  test('whose transfer breaks off goes on where it broke', async () => {
    breaksAt = 100_000;
    expect(await readFile(await fetched())).toEqual(BYTES);
    expect(asked.filter((one) => one.startsWith('flatcar_production_qemu_image.img '))).toEqual([
      'flatcar_production_qemu_image.img 0',
      'flatcar_production_qemu_image.img 100000',
    ]);
  });

  test('that the server does not have is told', async () => {
    files.delete(image);
    await expect(fetched()).rejects.toThrow('the server answered 404');
    files.delete(`${image}.sig`);
    await expect(fetched()).rejects.toThrow('no signed image for QEMU');
  });

  test("comes from Flatcar's own servers, signed by its own key", () => {
    expect(OFFICIAL.folder(release, 'arm64-usr')).toBe(`https://stable.release.flatcar-linux.net/arm64-usr/${release.number}`);
    expect(OFFICIAL.fingerprint).toMatch(/^[0-9A-F]{40}$/);
  });
});
