import { copyFile, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashFile, selectTargets, type Target } from '@flatcar/core';
import { mergeTest, NGINX_ROOT, withHost, withNginx, type Host } from '@flatcar/testing';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { beginRotation, finishRotation, initKeys, loadKeys, localDestination, publish, transferText, type Channel } from '../src/index.ts';
import { buildDemo } from './helpers/demo.ts';

// The real systemd-sysupdate against a real tree, served by the real nginx. 254 is the oldest that Debian still has beside Flatcar's.
const packages = ['systemd', 'systemd-container', 'gpg', 'gpgv'];
const SYSTEMDS = [
  { systemd: '254', root: { suite: 'bookworm-backports', packages } },
  { systemd: '257', root: NGINX_ROOT },
  // It opens libcurl only when it downloads, so no package depends on it.
  { systemd: 'the newest', root: { suite: 'sid', packages: [...packages, 'libcurl4t64'] } },
];
const [stable] = selectTargets('4593.2.5') as [Target];
let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sysupdate-'));
  for (const version of ['1.0.0', '1.0.1', '1.1.0', '2.0.0'])
    await buildDemo(join(dir, `images-${version}`), { version, targets: ['portable', stable] });
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** A tree of its own with its own keys. */
async function newTree(name: string, url: string): Promise<{ keysDir: string; add: (...versions: string[]) => Promise<void> }> {
  const keysDir = join(dir, `keys-${name}`);
  await initKeys(keysDir);
  return {
    keysDir,
    async add(...versions) {
      const keys = await loadKeys(keysDir, {});
      await publish({ paths: versions.map((version) => join(dir, `images-${version}`)), destination: localDestination(join(dir, 'served', name)), keys, baseUrl: `${url}/${name}` }); // prettier-ignore
    },
  };
}

/** A node that has the keyring of a tree and one transfer file of the extension. */
async function prepare(host: Host, keyring: string, transfer: string): Promise<void> {
  const write = async (text: string, path: string): Promise<void> => {
    const file = join(dir, 'transfer.tmp');
    await writeFile(file, text);
    await host.copyIn(file, path);
  };
  await host.run([
    'sh',
    '-c',
    'rm -rf /opt/extensions /etc/extensions /etc/sysupdate.demo.d; mkdir -p /etc/sysupdate.demo.d /opt/extensions/demo /etc/extensions /etc/systemd',
  ]);
  await write(transfer, '/etc/sysupdate.demo.d/demo.conf');
  await host.copyIn(keyring, '/etc/systemd/import-pubring.gpg');
}

const sysupdate = (host: Host, ...args: string[]): Promise<string> =>
  host.run(['/usr/lib/systemd/systemd-sysupdate', '-C', 'demo', ...args]);
/** What the link that systemd-sysext sees leads to. */
const current = async (host: Host, link = 'demo-4593.2.5.raw'): Promise<string> =>
  (await host.run(['readlink', '-f', `/etc/extensions/${link}`])).split('/').at(-1) ?? '';
const installed = async (host: Host): Promise<string[]> => (await host.run(['ls', '/opt/extensions/demo'])).split('\n').filter(Boolean);

describe.each(SYSTEMDS)('systemd-sysupdate of systemd $systemd', ({ systemd, root }) => {
  const onNode = async (use: (host: Host, url: string, name: string) => Promise<void>): Promise<void> => {
    const served = join(dir, 'served');
    await rm(served, { recursive: true, force: true });
    for (const name of await readdir(dir)) if (name.startsWith('keys-')) await rm(join(dir, name), { recursive: true });
    await mkdir(served);
    await withNginx(served, (url) =>
      withHost({ release: stable === 'portable' ? '' : stable.number, root }, async (host) => {
        await host.setRelease('4593.2.5');
        if (/^\d+$/.test(systemd))
          expect(await host.run(['/usr/lib/systemd/systemd-sysupdate', '--version'])).toContain(`systemd ${systemd}`);
        await use(host, url, 'tree');
      }),
    );
  };

  mergeTest('lists, installs and updates what is bound to the running release, with Verify=yes', () =>
    onNode(async (host, url) => {
      const { add } = await newTree('tree', url);
      await add('1.0.0');
      const tree = join(dir, 'served/tree');
      await prepare(
        host,
        join(tree, 'keys/import-pubring.gpg'),
        await readFile(join(tree, 'demo/transfer/release/latest.transfer'), 'utf8'),
      );
      expect(await sysupdate(host, 'list')).toMatch(/1\.0\.0.*candidate/);
      await sysupdate(host, 'update');
      expect(await installed(host)).toEqual(['demo-1.0.0-4593.2.5-x86-64.raw']);
      expect(await current(host)).toBe('demo-1.0.0-4593.2.5-x86-64.raw');
      await host.copyOut('/opt/extensions/demo/demo-1.0.0-4593.2.5-x86-64.raw', join(dir, 'got.raw'));
      expect(await hashFile(join(dir, 'got.raw'))).toBe(await hashFile(join(tree, 'demo/4593.2.5/demo-1.0.0-4593.2.5-x86-64.raw')));

      await add('1.0.1', '2.0.0');
      expect(await sysupdate(host, 'list')).toMatch(/2\.0\.0.*candidate/);
      await sysupdate(host, 'update');
      expect(await current(host)).toBe('demo-2.0.0-4593.2.5-x86-64.raw');
      expect(await sysupdate(host, 'update')).toMatch(/No update needed|newest version is already installed/i);
    }),
  );

  mergeTest('portable images, the patch-only channel, and a pinned version', () =>
    onNode(async (host, url) => {
      const { add } = await newTree('tree', url);
      await add('1.0.0', '1.0.1', '1.1.0', '2.0.0');
      const tree = join(dir, 'served/tree');
      const take = async (kind: 'portable' | 'release', channel: string): Promise<string> => {
        await prepare(
          host,
          join(tree, 'keys/import-pubring.gpg'),
          await readFile(join(tree, `demo/transfer/${kind}/${channel}.conf`), 'utf8'),
        );
        const said = await sysupdate(host, 'update');
        return (await installed(host)).join(' ') || said;
      };
      expect(await take('portable', 'latest')).toBe('demo-2.0.0-x86-64.raw');
      expect(await current(host, 'demo.raw')).toBe('demo-2.0.0-x86-64.raw');
      expect(await take('release', '1.0')).toBe('demo-1.0.1-4593.2.5-x86-64.raw');
      expect(await take('release', '1')).toBe('demo-1.1.0-4593.2.5-x86-64.raw');
      expect(await take('release', '1.0.0')).toBe('demo-1.0.0-4593.2.5-x86-64.raw');
      expect(await current(host)).toBe('demo-1.0.0-4593.2.5-x86-64.raw');
      // A node that prepares for the next release has its number in place of %w.
      const channel: Channel = { kind: 'latest' };
      await prepare(
        host,
        join(tree, 'keys/import-pubring.gpg'),
        transferText({ name: 'demo', kind: 'release', channel, baseUrl: `${url}/tree`, release: '4593.2.5' }),
      );
      await host.setRelease('4593.2.4');
      await sysupdate(host, 'update');
      expect(await current(host)).toBe('demo-2.0.0-4593.2.5-x86-64.raw');
    }),
  );

  mergeTest('refuses tampered sums, a tampered image and a wrong key, and then takes the right ones', () =>
    onNode(async (host, url) => {
      const { add } = await newTree('tree', url);
      await add('1.0.0', '1.0.1');
      const served = join(dir, 'served');
      const keyring = join(served, 'tree/keys/import-pubring.gpg');
      const transfer = (name: string): string =>
        transferText({ name: 'demo', kind: 'release', channel: { kind: 'latest' }, baseUrl: `${url}/${name}` });
      const copyTree = async (name: string): Promise<string> => {
        await cp(join(served, 'tree'), join(served, name), { recursive: true, verbatimSymlinks: true });
        return join(served, name, 'demo/4593.2.5');
      };
      const image = 'demo-1.0.1-4593.2.5-x86-64.raw';

      const badSums = join(await copyTree('sums'), 'SHA256SUMS');
      const text = await readFile(badSums, 'utf8');
      await writeFile(badSums, text.replace(/^[0-9a-f]{2}/, 'ff'));
      await prepare(host, keyring, transfer('sums'));
      expect(await sysupdate(host, 'update')).toMatch(/signature verification failed/i);
      expect(await installed(host)).toEqual([]);

      const badImage = join(await copyTree('image'), image);
      const bytes = await readFile(badImage);
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
      await rm(badImage);
      await writeFile(badImage, bytes);
      await prepare(host, keyring, transfer('image'));
      expect(await sysupdate(host, 'update')).toMatch(/hash|checksum|SHA256|invalid/i);
      expect((await installed(host)).filter((name) => !name.startsWith('.'))).toEqual([]);

      await initKeys(join(dir, 'keys-other'));
      const { keyringOf } = await import('../src/pgp.ts');
      const other = join(dir, 'keys-other/other.gpg');
      await writeFile(other, keyringOf((await loadKeys(join(dir, 'keys-other'), {})).trusted));
      await prepare(host, other, transfer('tree'));
      expect(await sysupdate(host, 'update')).toMatch(/signature verification failed/i);
      expect(await installed(host)).toEqual([]);

      await prepare(host, keyring, transfer('tree'));
      await sysupdate(host, 'update');
      expect(await current(host)).toBe(image);
    }),
  );

  mergeTest('keys are rotated by keyrings that overlap; two signatures need both keys', () =>
    onNode(async (host, url) => {
      const { add, keysDir } = await newTree('tree', url);
      await add('1.0.0');
      const served = join(dir, 'served/tree');
      const old = join(dir, 'old.gpg');
      await copyFile(join(served, 'keys/import-pubring.gpg'), old);
      const transfer = await readFile(join(served, 'demo/transfer/release/latest.conf'), 'utf8');
      const update = async (keyring: string): Promise<string> => {
        await prepare(host, keyring, transfer);
        const said = await sysupdate(host, 'update');
        return (await installed(host)).join(' ') || said;
      };
      await beginRotation(keysDir);
      await add('1.0.1');
      const both = join(dir, 'both.gpg');
      await copyFile(join(served, 'keys/import-pubring.gpg'), both);
      expect(await readFile(both)).not.toEqual(await readFile(old));
      // During the overlap both kinds of nodes are served.
      expect(await update(old)).toBe('demo-1.0.1-4593.2.5-x86-64.raw');
      expect(await update(both)).toBe('demo-1.0.1-4593.2.5-x86-64.raw');
      await finishRotation(keysDir);
      await add(); // signs anew what is published
      expect(await update(old)).toMatch(/signature verification failed/i);
      expect(await update(both)).toBe('demo-1.0.1-4593.2.5-x86-64.raw');
      // Two signatures in one file: good for who knows both keys only, since gpg fails on the one that it does not know.
      await cp(join(keysDir, 'sums/1.old.asc'), join(keysDir, 'sums/1.key.asc'));
      await add();
      expect(await update(old)).toMatch(/signature verification failed/i);
      expect(await update(both)).toBe('demo-1.0.1-4593.2.5-x86-64.raw');
    }),
  );
});
