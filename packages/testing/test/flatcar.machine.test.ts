// How a real Flatcar is booted, as far as that can be seen without one: config and network of such a machine, and the real Ignition in it.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { channelHead, openStore, openTools } from '@flatcar/core/engine';
import { afterAll, beforeAll, debianRoot, describe, expect, machineTest, standInOnly, unpackRoot, withMachine } from '../src/index.ts';
import { ignitionArgs } from '../src/machine/ignition.ts';

describe('a machine with a seed by Ignition', () => {
  let dir: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'ignition-'));
  });
  afterAll(() => rm(dir, { recursive: true, force: true }));

  machineTest('Ignition finds its config, fetches images from the one server in reach, and writes what nodes get', async (skip) => {
    await standInOnly('a real Flatcar boots by Ignition in every test')(skip);
    const image = join(dir, 'image.raw');
    await writeFile(image, Buffer.alloc(3_000_000, 'image'));
    const store = openStore();
    const tools = openTools(store);
    const root = join(dir, 'debian');
    await unpackRoot(tools, await debianRoot(store, tools, { suite: 'bookworm', packages: ['ignition', 'passwd'] }), root);
    const seed = {
      files: { '/opt/agent': '#!/bin/bash\necho ran\n' },
      copies: { '/opt/extensions/demo.raw': image },
      links: { '/etc/extensions/demo.raw': '/opt/extensions/demo.raw' },
    };
    await using ignition = await ignitionArgs(seed, dir, false);
    // Debian's Ignition asks for the config under the name that Fedora CoreOS gives it.
    const coreos = ignition.args.slice(0, 2).map((one) => one.replace('opt/org.flatcar-linux/', 'opt/com.coreos/'));
    await withMachine({ release: channelHead('stable'), args: [...ignition.args, ...coreos] }, async (machine) => {
      await machine.run('modprobe qemu_fw_cfg');
      expect(await machine.run('cat /sys/firmware/qemu_fw_cfg/by_name/opt/org.flatcar-linux/config/raw')).toContain('"version":"3.3.0"');
      await machine.until('curl --silent --fail --output /dev/null http://10.0.2.100/0');
      expect((await machine.ask('curl --silent --show-error --max-time 5 http://10.0.2.2/')).said).toMatch(/timed out|connect/i);
      await machine.copyIn(join(root, 'usr/lib/dracut/modules.d/30ignition/ignition'), '/root/ignition');
      await machine.run('chmod +x /root/ignition; mkdir -p /root/into/etc');
      const stage = (name: string): string =>
        `/root/ignition --platform=qemu --stage=${name} --root=/root/into --config-cache=/root/cache.json --log-to-stdout`;
      await machine.run(stage('fetch'));
      expect((await machine.ask(stage('files'))).said).toMatch(/file matches expected sum of/);
      expect(await machine.run('/root/into/opt/agent')).toBe('ran');
      expect(await machine.run('stat --format=%s /root/into/opt/extensions/demo.raw; readlink /root/into/etc/extensions/demo.raw')).toBe(
        '3000000\n/opt/extensions/demo.raw',
      );
    });
  });
});
