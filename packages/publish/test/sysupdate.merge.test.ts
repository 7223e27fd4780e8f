import { copyFile, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashFile, openStore, parseRef, selectTargets, type Target } from '@flatcar/core/engine';
import { mergeTest, SYSUPDATES, updated, withHost, withNginx, type Host, type Updated } from '@flatcar/testing';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import {
  beginRotation,
  finishRotation,
  initKeys,
  loadKeys,
  localDestination,
  nodeConfig,
  openTree,
  publish,
  readPublished,
  transferText,
  type Channel,
} from '../src/index.ts';
import { trustOf } from './helpers/trust.ts';
import { buildDemo } from './helpers/demo.ts';

// The real systemd-sysupdate against a real tree, served by the real nginx.
const [stable] = selectTargets('4593.2.5') as [Target];
let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sysupdate-'));
  for (const version of ['1.0.0', '1.0.1', '1.1.0', '2.0.0'])
    await buildDemo(join(dir, `images-${version}`), { version, targets: ['portable', stable] });
  for (const version of ['1.33.1+k3s1', '1.33.1+k3s2'])
    await buildDemo(join(dir, `images-k3s-${version}`), { name: 'k3s', version, targets: ['portable', stable] });
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
      await publish({
        paths: versions.map((version) => join(dir, `images-${version}`)),
        destination: localDestination(join(dir, 'served', name)),
        keys,
        baseUrl: `${url}/${name}`,
      });
    },
  };
}

const RELEASE_LINK = 'demo-4593.2.5.raw';

describe.each(SYSUPDATES)('systemd-sysupdate of systemd $systemd', ({ systemd, root }) => {
  let node: Updated;
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

  mergeTest(
    'lists, installs and updates what is bound to the running release, with Verify=yes',
    () =>
      onNode(async (host, url) => {
        const { add } = await newTree('tree', url);
        await add('1.0.0');
        const tree = join(dir, 'served/tree');
        node = await updated(
          host,
          'demo',
          join(tree, 'keys/import-pubring.gpg'),
          await readFile(join(tree, 'demo/transfer/release/latest.transfer'), 'utf8'),
        );
        expect(await node.sysupdate('list')).toMatch(/1\.0\.0.*candidate/);
        await node.sysupdate('update');
        expect(await node.installed()).toEqual(['demo.4593.2.5_1.0.0_x86-64.raw']);
        expect(await node.current(RELEASE_LINK)).toBe('demo.4593.2.5_1.0.0_x86-64.raw');
        await host.copyOut('/opt/extensions/demo/demo.4593.2.5_1.0.0_x86-64.raw', join(dir, 'got.raw'));
        expect(await hashFile(join(dir, 'got.raw'))).toBe(await hashFile(join(tree, 'demo/4593.2.5/demo.4593.2.5_1.0.0_x86-64.raw')));

        await add('1.0.1', '2.0.0');
        expect(await node.sysupdate('list')).toMatch(/2\.0\.0.*candidate/);
        await node.sysupdate('update');
        expect(await node.current(RELEASE_LINK)).toBe('demo.4593.2.5_2.0.0_x86-64.raw');
        expect(await node.sysupdate('update')).toMatch(/No update needed|newest version is already installed/i);
      }),
    { small: systemd === '257' },
  );

  mergeTest('a version with a plus sign is listed, installed, updated and pinned, and fetched by the URL that Ignition has', () =>
    onNode(async (host, url) => {
      const { add, keysDir } = await newTree('tree', url);
      await add('k3s-1.33.1+k3s1');
      const tree = join(dir, 'served/tree');
      const take = async (channel: string, candidate: string): Promise<string> => {
        const transfer = await readFile(join(tree, `k3s/transfer/release/${channel}.conf`), 'utf8');
        node = await updated(host, 'k3s', join(tree, 'keys/import-pubring.gpg'), transfer);
        expect(await node.sysupdate('list'), channel).toMatch(new RegExp(`\\s${RegExp.escape(candidate)}\\s.*candidate`));
        await node.sysupdate('update');
        return (await node.installed()).join(' ');
      };
      expect(await take('latest', '1.33.1+k3s1')).toBe('k3s.4593.2.5_1.33.1+k3s1_x86-64.raw');
      await add('k3s-1.33.1+k3s2');
      await node.sysupdate('update');
      expect(await node.current('k3s-4593.2.5.raw')).toBe('k3s.4593.2.5_1.33.1+k3s2_x86-64.raw');
      expect(await take('1.33', '1+k3s2')).toBe('k3s.4593.2.5_1.33.1+k3s2_x86-64.raw');
      expect(await take('1.33.1+k3s1', 'a')).toBe('k3s.4593.2.5_1.33.1+k3s1_x86-64.raw');

      const trust = trustOf(await loadKeys(keysDir, {}));
      const published = await readPublished(openTree(`${url}/tree`, openStore()), trust);
      const { config } = await nodeConfig(
        { wanted: [parseRef('k3s')], targets: [stable], arch: 'x86-64', baseUrl: `${url}/tree`, minimal: true, stager: false },
        (name) => published.extension(name),
        Buffer.alloc(0),
      );
      const [file] = config.files;
      const source = file !== undefined && 'source' in file.contents ? file.contents.source : '';
      expect(source).toContain('%2B');
      await writeFile(join(dir, 'got.raw'), Buffer.from(await (await fetch(source)).arrayBuffer()));
      expect(await hashFile(join(dir, 'got.raw'))).toBe(await hashFile(join(tree, 'k3s/4593.2.5/k3s.4593.2.5_1.33.1+k3s2_x86-64.raw')));
    }),
  );

  mergeTest('portable images, the patch-only channel, and a pinned version', () =>
    onNode(async (host, url) => {
      const { add } = await newTree('tree', url);
      await add('1.0.0', '1.0.1', '1.1.0', '2.0.0');
      const tree = join(dir, 'served/tree');
      const take = async (kind: 'portable' | 'release', channel: string): Promise<string> => {
        node = await updated(
          host,
          'demo',
          join(tree, 'keys/import-pubring.gpg'),
          await readFile(join(tree, `demo/transfer/${kind}/${channel}.conf`), 'utf8'),
        );
        const said = await node.sysupdate('update');
        return (await node.installed()).join(' ') || said;
      };
      expect(await take('portable', 'latest')).toBe('demo.portable_2.0.0_x86-64.raw');
      expect(await node.current('demo.raw')).toBe('demo.portable_2.0.0_x86-64.raw');
      expect(await take('release', '1.0')).toBe('demo.4593.2.5_1.0.1_x86-64.raw');
      expect(await take('release', '1')).toBe('demo.4593.2.5_1.1.0_x86-64.raw');
      expect(await take('release', '1.0.0')).toBe('demo.4593.2.5_1.0.0_x86-64.raw');
      expect(await node.current(RELEASE_LINK)).toBe('demo.4593.2.5_1.0.0_x86-64.raw');
      // A node that prepares for the next release has its number in place of %w.
      const channel: Channel = { kind: 'latest' };
      node = await updated(
        host,
        'demo',
        join(tree, 'keys/import-pubring.gpg'),
        transferText({ name: 'demo', kind: 'release', channel, baseUrl: `${url}/tree`, release: '4593.2.5' }),
      );
      await host.setRelease('4593.2.4');
      await node.sysupdate('update');
      expect(await node.current(RELEASE_LINK)).toBe('demo.4593.2.5_2.0.0_x86-64.raw');
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
      const image = 'demo.4593.2.5_1.0.1_x86-64.raw';

      const badSums = join(await copyTree('sums'), 'SHA256SUMS');
      const text = await readFile(badSums, 'utf8');
      await writeFile(badSums, text.replace(/^[0-9a-f]{2}/, 'ff'));
      node = await updated(host, 'demo', keyring, transfer('sums'));
      expect(await node.sysupdate('update')).toMatch(/signature verification failed/i);
      expect(await node.installed()).toEqual([]);

      const badImage = join(await copyTree('image'), image);
      const bytes = await readFile(badImage);
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
      await rm(badImage);
      await writeFile(badImage, bytes);
      node = await updated(host, 'demo', keyring, transfer('image'));
      expect(await node.sysupdate('update')).toMatch(/hash|checksum|SHA256|invalid/i);
      expect((await node.installed()).filter((name) => !name.startsWith('.'))).toEqual([]);

      await initKeys(join(dir, 'keys-other'));
      const { keyringOf } = await import('../src/keys/openpgp.ts');
      const other = join(dir, 'keys-other/other.gpg');
      await writeFile(other, keyringOf((await loadKeys(join(dir, 'keys-other'), {})).trusted));
      node = await updated(host, 'demo', other, transfer('tree'));
      expect(await node.sysupdate('update')).toMatch(/signature verification failed/i);
      expect(await node.installed()).toEqual([]);

      node = await updated(host, 'demo', keyring, transfer('tree'));
      await node.sysupdate('update');
      expect(await node.current(RELEASE_LINK)).toBe(image);
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
        node = await updated(host, 'demo', keyring, transfer);
        const said = await node.sysupdate('update');
        return (await node.installed()).join(' ') || said;
      };
      await beginRotation(keysDir);
      await add('1.0.1');
      const both = join(dir, 'both.gpg');
      await copyFile(join(served, 'keys/import-pubring.gpg'), both);
      expect(await readFile(both)).not.toEqual(await readFile(old));
      // During the overlap both kinds of nodes are served.
      expect(await update(old)).toBe('demo.4593.2.5_1.0.1_x86-64.raw');
      expect(await update(both)).toBe('demo.4593.2.5_1.0.1_x86-64.raw');
      await finishRotation(keysDir);
      await add(); // signs anew what is published
      expect(await update(old)).toMatch(/signature verification failed/i);
      expect(await update(both)).toBe('demo.4593.2.5_1.0.1_x86-64.raw');
      // Two signatures in one file: good for who knows both keys only, since gpg fails on the one that it does not know.
      await cp(join(keysDir, 'sums/1.old.asc'), join(keysDir, 'sums/1.key.asc'));
      await add();
      expect(await update(old)).toMatch(/signature verification failed/i);
      expect(await update(both)).toBe('demo.4593.2.5_1.0.1_x86-64.raw');
    }),
  );
});
