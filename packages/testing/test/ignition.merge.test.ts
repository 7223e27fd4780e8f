// A machine's files by Ignition: Debian's build of it reads the config that a real Flatcar gets, and fetches from the server of a machine's files.
import { mkdir, mkdtemp, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { archWords, hostArch, openStore, openTools } from '@flatcar/core/engine';
import { execa } from 'execa';
import { afterAll, beforeAll, debianRoot, describe, expect, mergeTest, unpackRoot } from '../src/index.ts';
import { ignitionConfig, serveFiles } from '../src/machine/ignition.ts';

const SEED = {
  files: {
    '/opt/test-agent/agent': '#!/bin/bash\necho "ä ${x} %h"\n',
    '/etc/systemd/system/a.service': '[Unit]\nDescription=50 % of #1\n',
  },
  links: {
    '/etc/extensions/demo-1.0.0.raw': '/opt/extensions/demo/demo.raw',
    '/etc/extensions/docker-flatcar.raw': '/dev/null',
    '/etc/systemd/system/multi-user.target.wants/a.service': '/etc/systemd/system/a.service',
  },
};

describe('the config of a machine, read by the real Ignition', () => {
  let dir: string;
  let image: string;
  /** The Debian that has Ignition, unpacked once. */
  let unpacked: Promise<string> | undefined;
  const unpack = async (): Promise<string> => {
    const store = openStore();
    const tools = openTools(store);
    const to = join(dir, 'debian');
    await unpackRoot(tools, await debianRoot(store, tools, { suite: 'bookworm', packages: ['ignition', 'passwd'] }), to);
    return to;
  };
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'ignition-'));
    image = join(dir, 'image.raw');
    await writeFile(image, Buffer.alloc(3_000_000, 'image'));
  });
  afterAll(() => rm(dir, { recursive: true, force: true }));

  /** Runs the stages that fetch and write, as the initrd does, and gives all that Ignition says. */
  async function ignite(config: object, into: string): Promise<string> {
    const root = await (unpacked ??= unpack());
    const file = join(dir, 'config.ign');
    await writeFile(file, JSON.stringify(config));
    await mkdir(join(into, 'etc'), { recursive: true });
    const { loader, triplet } = archWords(hostArch());
    let said = '';
    for (const stage of ['fetch', 'files']) {
      // Its own libraries; the host's may be older than it.
      const { all, failed } = await execa(
        join(root, loader),
        [
          '--library-path',
          join(root, 'usr/lib', triplet),
          join(root, 'usr/lib/dracut/modules.d/30ignition/ignition'),
          '--platform=file',
          `--stage=${stage}`,
          `--root=${into}`,
          `--config-cache=${join(dir, 'cache.json')}`,
          '--log-to-stdout',
        ],
        { all: true, reject: false, env: { IGNITION_CONFIG_FILE: file } },
      );
      said += all;
      // Once all is written Debian's build labels it for SELinux, of which this root has nothing.
      if (failed && !all.includes('failed to handle relabeling: failed to open /etc/selinux/config')) throw new Error(said);
    }
    return said;
  }

  mergeTest('files, images and links are where a node has them, with their modes', async () => {
    await using server = await serveFiles([image]);
    const into = join(dir, 'root');
    const copies = { '/opt/extensions/demo/demo.raw': image };
    await ignite(await ignitionConfig({ ...SEED, copies }, `http://127.0.0.1:${server.port}/`), into);
    for (const [path, text] of Object.entries(SEED.files)) expect(await readFile(join(into, path), 'utf8')).toBe(text);
    expect((await stat(join(into, '/opt/test-agent/agent'))).mode & 0o777).toBe(0o755);
    expect((await stat(join(into, '/etc/systemd/system/a.service'))).mode & 0o777).toBe(0o644);
    expect(await readFile(join(into, '/opt/extensions/demo/demo.raw'))).toEqual(await readFile(image));
    for (const [path, target] of Object.entries(SEED.links)) expect(await readlink(join(into, path))).toBe(target);
  });

  mergeTest('an image that is not as it was hashed is refused', async () => {
    const other = join(dir, 'other.raw');
    await writeFile(other, Buffer.alloc(3_000_000, 'other'));
    await using server = await serveFiles([other]);
    const config = await ignitionConfig({ copies: { '/opt/demo.raw': image } }, `http://127.0.0.1:${server.port}/`);
    await expect(ignite(config, join(dir, 'refused'))).rejects.toThrow(/hash verification failed/i);
  });
});
