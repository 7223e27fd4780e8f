// What only a booted node shows: logind refuses the reboot while the images for the next release are missing.
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { initKeys, loadKeys, localDestination, publish } from '@flatcar/publish';
import {
  buildExtension,
  catalogue,
  describe,
  expect,
  extensionFolder,
  hostArch,
  linkName,
  loadExtension,
  machineTest,
  newestFirst,
  openStore,
  openTools,
  standInOnly,
  startUpdateEngine,
  withMachine,
  withNginx,
  type Image,
  type Release,
} from '@flatcar/testing';

const name = 'extension-stager';
const [next, running] = catalogue().filter(({ channel }) => channel === 'stable');
if (next === undefined || running === undefined) throw new Error('the catalogue has less than two stable releases');

/** This machine, as the guest's network has it. */
const HOST = '10.0.2.2';

/** As update-engine's own package has it. */
const BUS_POLICY = `<busconfig>
<policy user="root"><allow own="com.coreos.update1"/></policy>
<policy context="default"><allow send_destination="com.coreos.update1"/></policy>
</busconfig>
`;

/** The image for a release, as it would be published, alone in its folder. */
async function imageFor(release: Release, out: string): Promise<Image> {
  const loaded = await loadExtension(extensionFolder(import.meta.dirname));
  const store = openStore();
  const { images } = await buildExtension(loaded, {
    version: newestFirst(Object.keys(loaded.pins))[0] ?? '',
    arch: hostArch(),
    targets: [release],
    profile: 'publish',
    origin: 'auto',
    out,
    store,
    tools: openTools(store),
    report: () => undefined,
  });
  const [image] = images;
  if (image === undefined) throw new Error(`the build made no image for ${release.number}`);
  return image;
}

describe(`the reboot from ${running.number} into ${next.number}`, () => {
  machineTest('is refused until the image for it is there; then it goes through, and that image is merged', async (skip) => {
    await standInOnly('a real Flatcar has an update-engine of its own, and gets another /usr by it only')(skip);
    const dir = await mkdtemp(join(tmpdir(), 'stager-machine-'));
    const bus = createServer();
    try {
      const image = await imageFor(running, join(dir, running.number));
      await imageFor(next, join(dir, next.number));
      bus.listen(0, '127.0.0.1');
      await once(bus, 'listening');
      const served = join(dir, 'served');
      const tree = join(served, 'tree');
      await mkdir(served);
      await initKeys(join(dir, 'keys'));
      const keys = await loadKeys(join(dir, 'keys'), {});
      await withNginx(served, async (local) => {
        const baseUrl = `${local.replace('127.0.0.1', HOST)}/tree`;
        const add = ({ number }: Release): Promise<unknown> =>
          publish({ paths: [join(dir, number)], destination: localDestination(tree), keys, baseUrl, unsigned: true });
        await add(running);
        const seed = {
          files: {
            [`/etc/sysupdate.${name}.d/${name}.transfer`]: await readFile(join(tree, name, 'transfer/release/latest.transfer'), 'utf8'),
            '/etc/dbus-1/system.d/com.coreos.update1.conf': BUS_POLICY,
            '/etc/systemd/system/extension-stager.service.d/soon.conf':
              '[Service]\nEnvironment=EXTENSION_STAGER_POLL=1 EXTENSION_STAGER_RETRY=1\n',
          },
          copies: { '/etc/systemd/import-pubring.gpg': join(tree, 'keys/import-pubring.gpg') },
        };
        await withMachine({ release: running, network: true, images: [{ image }], seed }, async (machine) => {
          const held = `systemd-inhibit --list --no-pager --no-legend | grep ${name}`;
          const link = `/etc/extensions/${linkName(name, next)}`;
          await machine.until(`systemctl is-active ${name}.service`);
          await machine.until('networkctl --no-legend list | grep routable');
          expect((await machine.ask(held)).code).not.toBe(0);

          const connected = once(bus, 'connection') as Promise<[Socket]>;
          await machine.run(
            `systemd-run --unit=update-engine socat TCP:${HOST}:${(bus.address() as AddressInfo).port} UNIX-CONNECT:/run/dbus/system_bus_socket`,
          );
          const engine = await startUpdateEngine((await connected)[0]);
          const boot = await machine.run('cat /proc/sys/kernel/random/boot_id');
          engine.set('UPDATE_STATUS_UPDATED_NEED_REBOOT', next.number);
          expect(await machine.until(held)).toMatch(/shutdown .*block/);
          const { code, said } = await machine.ask('systemctl reboot');
          expect(code, said).not.toBe(0);
          expect((await machine.ask('systemctl reboot --check-inhibitors=yes')).said).toContain(
            `the extension images for Flatcar ${next.number} are not on this node yet`,
          );
          await machine.until(`journalctl --unit=${name}.service --no-pager | grep 'there is no image for Flatcar ${next.number} yet'`);
          expect((await machine.ask(`test -e ${link}`)).code).not.toBe(0);

          await add(next);
          await machine.until(`test -e ${link} && ! { ${held}; }`);
          expect(await machine.run('cat /proc/sys/kernel/random/boot_id')).toBe(boot);
          engine.close();
          await machine.bootInto(next);
          const merged = await machine.run('systemd-sysext status --no-pager --no-legend');
          expect(merged).toContain(`${name}-${next.number}`);
          expect(merged).not.toContain(running.number);
          await machine.until(`systemctl is-active ${name}.service`);
          expect(await machine.run('extension-stager status')).toContain(`running: ${next.number}`);
        });
      });
    } finally {
      bus.close();
      await rm(dir, { recursive: true, force: true });
    }
  });
});
