// A node that updates from a server on this machine: fetched, verified, and run after a refresh.
import { appendFile, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { channelHead, hostArch, type Image } from '@flatcar/core/engine';
import { describe, expect, machineTest, withMachine, withNginx } from '@flatcar/testing';
import { initKeys, loadKeys, localDestination, publish } from '../src/index.ts';
import { buildDemo } from './helpers/demo.ts';

const stable = channelHead('stable');

describe('systemd-sysupdate on a booted node', () => {
  machineTest('fetches the next version, verifies it, and the new version runs after a refresh; a damaged one is refused', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'sysupdate-machine-'));
    try {
      const images: Image[] = [];
      for (const version of ['1.0.0', '2.0.0', '3.0.0'])
        images.push(
          ...(await buildDemo(join(dir, version), { version, targets: [stable], arches: [hostArch()] })).flatMap((one) => one.images),
        );
      const [first, , third] = images;
      if (first === undefined || third === undefined) throw new Error('the build made no images');
      const served = join(dir, 'served');
      await mkdir(served);
      await initKeys(join(dir, 'keys'));
      const keys = await loadKeys(join(dir, 'keys'), {});
      await withNginx(served, async (local) => {
        const url = local.replace('127.0.0.1', '10.0.2.2'); // this machine, as the guest's network has it
        const add = (version: string): Promise<unknown> =>
          publish({ paths: [join(dir, version)], destination: localDestination(join(served, 'tree')), keys, baseUrl: `${url}/tree` });
        await add('1.0.0');
        const tree = join(served, 'tree');
        const seed = {
          files: {
            '/etc/sysupdate.demo.d/demo.transfer': await readFile(join(tree, 'demo/transfer/release/latest.transfer'), 'utf8'),
          },
          copies: { '/etc/systemd/import-pubring.gpg': join(tree, 'keys/import-pubring.gpg') },
        };
        await withMachine({ release: stable, network: true, images: [{ image: first }], seed }, async (machine) => {
          expect(await machine.run('demo')).toBe('demo 1.0.0');
          await machine.until('networkctl --no-legend list | grep -q routable');
          await add('2.0.0');
          await machine.run('/usr/lib/systemd/systemd-sysupdate -C demo update');
          await machine.run('systemctl restart systemd-sysext');
          expect(await machine.run('demo')).toBe('demo 2.0.0');

          await add('3.0.0');
          await appendFile(join(tree, 'demo', stable.number, third.file.split('/').at(-1) ?? ''), 'x');
          const { code, said } = await machine.ask('/usr/lib/systemd/systemd-sysupdate -C demo update');
          expect(code, said).not.toBe(0);
          await machine.run('systemctl restart systemd-sysext');
          expect(await machine.run('demo')).toBe('demo 2.0.0');
        });
      });
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });
});
