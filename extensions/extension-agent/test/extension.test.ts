import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import {
  afterAll,
  beforeAll,
  buildImages,
  channelHead,
  describe,
  expect,
  hostArch,
  linkName,
  mergeTest,
  testExtension,
  withHost,
  type Host,
} from '@flatcar/testing';

const run = promisify(execFile);
const name = 'extension-agent';
const running = channelHead('stable');
const next = channelHead('beta');
/** An extension without programs to compile, which the agent installs. */
const other = 'extension-stager';

testExtension(import.meta.dirname, {
  commands: [{ run: ['extension-agent', '--help'], says: /^usage: extension-agent/ }],
  machine: { active: ['extension-agent.service', 'extension-agent-update.timer'] },
  units: ['extension-agent.service', 'extension-agent-update.service', 'extension-agent-update.timer'],
});

describe('a node with a signed tree', () => {
  let dir: string;
  let server: Server;
  let baseUrl: string;
  let image = '';
  /** Changes what the server answers. */
  let change = (bytes: Buffer, _path: string): Buffer => bytes;

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'agent-merge-'));
    const images = await buildImages(import.meta.dirname, hostArch(), ['portable', running, next]);
    image = images.find(({ target }) => target === 'portable')?.file ?? '';
    const tree = join(dir, 'tree');
    server = createServer((request, response) => {
      const path = new URL(request.url ?? '', 'http://tree').pathname;
      readFile(join(tree, path)).then(
        (bytes) => response.writeHead(200).end(change(bytes, path)),
        () => response.writeHead(404).end(),
      );
    });
    await new Promise<void>((done) => {
      server.listen(0, '127.0.0.1', done);
    });
    baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const flatcarExt = (...args: string[]) => run(join(import.meta.dirname, '../../../packages/cli/bin/flatcar-ext'), args);
    await flatcarExt('keys', 'init', join(dir, 'keys'));
    const releases = `${running.number},${next.number}`;
    const how = ['--profile', 'publish', '--arch', hostArch(), '--keys', join(dir, 'keys')];
    await flatcarExt('build', other, ...how, '--release', releases, '--out', join(dir, 'images'));
    await flatcarExt('publish', join(dir, 'images', other), '--tree', tree, '--keys', join(dir, 'keys'), '--base-url', baseUrl);
  });
  afterAll(async () => {
    server.closeAllConnections();
    server.close();
    await rm(dir, { recursive: true, force: true });
  });

  /** A node with the agent merged, and the root of trust of the tree. */
  async function node(use: (host: Host, agent: (...args: string[]) => Promise<string>) => Promise<void>): Promise<void> {
    await withHost({ release: running.number }, async (host) => {
      await host.setRelease(running.number);
      await host.install(image, linkName(name, 'portable'));
      expect(await host.merge()).toContain(`Using extensions '${name}`);
      await writeFile(join(dir, 'settings'), `tree = "${baseUrl}"\nsettle = "0s"\n`);
      await host.run(['mkdir', '-p', '/etc/extension-agent']);
      await host.copyIn(join(dir, 'settings'), '/etc/extension-agent.toml');
      await host.copyIn(join(dir, 'tree/metadata/1.root.json'), '/etc/extension-agent/root.json');
      // systemd does not run here: the exit code is printed, because a refusal is no error of the test.
      await use(host, (...args) => host.run(['sh', '-c', '"$@" 2>&1; echo "exit code $?"', 'sh', 'extension-agent', ...args]));
    });
  }
  const link = (release: string): string => `/etc/extensions/${other}-${release}.raw`;

  mergeTest('installs, merges and reports an image, has that of the next release, and removes both', async () => {
    await node(async (host, agent) => {
      expect(await agent('install', other)).toMatch(/merged\s+exit code 0/);
      expect(await agent('status', '--json')).toContain(`"target": "${running.number}"`);
      expect(await host.exists(`/usr/bin/${other}`)).toBe(true);
      expect(await agent('check', next.number)).toContain('exit code 0');
      expect(await host.exists(link(next.number))).toBe(false);
      expect(await agent('stage', next.number)).toMatch(/linked\s+exit code 0/);
      expect(await host.exists(link(next.number))).toBe(true);
      expect(await agent('remove', other)).toBe('exit code 0\n');
      expect(await host.exists(link(running.number))).toBe(false);
      expect(await host.exists(`/usr/bin/${other}`)).toBe(false);
    });
  });

  mergeTest('refuses changed images and metadata, and takes the right ones afterwards', async () => {
    await node(async (host, agent) => {
      const flip = (bytes: Buffer): Buffer => {
        const changed = Buffer.from(bytes);
        changed[changed.length >> 1] = (changed[changed.length >> 1] ?? 0) ^ 1;
        return changed;
      };
      change = (bytes, path) => (path.endsWith('.raw') ? flip(bytes) : bytes);
      expect(await agent('install', other)).toMatch(/wrong digest[^]*exit code 1/);
      expect(await host.exists(link(running.number))).toBe(false);
      change = (bytes, path) => (path.endsWith('timestamp.json') ? flip(bytes) : bytes);
      expect(await agent('install', other)).toContain('exit code 1');
      change = (bytes) => bytes;
      expect(await agent('install', other)).toMatch(/merged\s+exit code 0/);
    });
  });
});
