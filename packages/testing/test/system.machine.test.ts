// What systemd does with images where it merges in the final system, as on Flatcar up to 4593: one machine, no network.
import { copyFile, mkdtemp, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { catalogue, type Image, type Release } from '@flatcar/core/engine';
import { afterAll, beforeAll, describe, expect, linkPath, sharedMachine, standInOnly, type Delivered } from '../src/index.ts';
import { demoImages } from './helpers/demo.ts';
import { imagePolicies, mutableModes } from './helpers/systemd.ts';

// Those of stable come first; once it merges in the initrd, those of LTS are left.
const [bound, previous] = catalogue().filter(({ mergeStage }) => mergeStage === 'system');
if (bound === undefined || previous === undefined)
  throw new Error('the catalogue has less than two releases that merge in the final system');

describe(`${bound.number}, merged in the final system`, () => {
  let folder: string;
  let first: readonly Image[];
  let second: Image;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'machine-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));
  const imageFor = (images: readonly Image[], { number }: Release): Image => {
    const found = images.find(({ target }) => target === number);
    if (found === undefined) throw new Error(`the build made no image for ${number}`);
    return found;
  };

  const inMachine = sharedMachine(async () => {
    first = await demoImages(folder, [bound, previous]);
    second = imageFor(await demoImages(folder, [bound], { version: '2.0.0' }), bound);
    return { release: bound, images: first.map((image): Delivered => ({ image })) };
  });
  const STATUS = 'systemd-sysext status --no-pager --no-legend';

  inMachine('of two images the one for the running release is merged, and its service runs', async (machine) => {
    expect(await machine.run(STATUS)).toMatch(new RegExp(`demo-${bound.number}`));
    expect(await machine.run(STATUS)).not.toContain(previous.number);
    expect(await machine.run('demo')).toBe('demo 1.0.0');
    await machine.until('systemctl is-active demo.service');
    expect((await machine.ask('touch /usr/x')).said).toContain('Read-only file system');
  });

  inMachine('an image for another release alone is ignored, and nothing fails', async (machine) => {
    const link = linkPath({ image: imageFor(first, bound) });
    await machine.run(`mv ${link} /root/link && systemctl restart systemd-sysext`);
    expect(await machine.run('journalctl --boot --unit=systemd-sysext --no-pager | tail -n 3')).toMatch(/incompatible/);
    expect(await machine.run(STATUS)).not.toContain('demo');
    expect(await machine.run('systemctl --failed --no-legend')).toBe('');
    await machine.run(`mv /root/link ${link} && systemctl restart systemd-sysext && demo`);
    await machine.until('systemctl is-active demo.service');
  });

  inMachine('a refresh brings the new version while the service of the old one goes on', async (machine) => {
    const pid = await machine.run('systemctl show --property=MainPID --value demo.service');
    const path = '/opt/extensions/demo/second.raw';
    await machine.copyIn(second.file, path);
    await machine.run(`ln -sfn ${path} ${linkPath({ image: imageFor(first, bound) })} && systemctl restart systemd-sysext`);
    expect(await machine.run('demo')).toBe('demo 2.0.0');
    expect(await machine.run('systemctl show --property=MainPID --value demo.service')).toBe(pid);
    await machine.run('systemctl restart demo.service');
    expect(await machine.until('journalctl --unit=demo.service --no-pager | grep "demo 2.0.0"')).toContain('demo 2.0.0');
  });

  inMachine('a key that this systemd does not know, EXTENSION_RESTART_UNITS, breaks nothing', async (machine) => {
    const pid = await machine.run('systemctl show --property=MainPID --value demo.service');
    const release = '/run/extensions/restarter/usr/lib/extension-release.d';
    await machine.run(
      `mkdir -p ${release} && printf 'ID=_any\\nEXTENSION_RESTART_UNITS=demo.service\\n' >${release}/extension-release.restarter && systemd-sysext refresh`,
    );
    expect(await machine.run(STATUS)).toContain('restarter');
    expect(await machine.run('demo')).toBe('demo 2.0.0');
    expect(await machine.run('systemctl is-active demo.service')).toBe('active');
    expect(await machine.run('systemctl show --property=MainPID --value demo.service')).toBe(pid);
    await machine.run('rm -r /run/extensions/restarter && systemd-sysext refresh');
  });

  inMachine('a damaged image fails the refresh, the merge stays as it is, and without the link all is well again', async (machine) => {
    const damaged = join(folder, 'damaged.raw');
    await copyFile(second.file, damaged);
    await truncate(damaged, 1000);
    await machine.copyIn(damaged, '/opt/extensions/broken/broken.raw');
    await machine.run('ln -s /opt/extensions/broken/broken.raw /etc/extensions/broken.raw');
    const { code, said } = await machine.ask('systemd-sysext refresh');
    expect(code, said).not.toBe(0);
    expect(said).toContain('Failed to read metadata for image broken');
    expect(await machine.run('demo')).toBe('demo 2.0.0');
    await machine.run('rm /etc/extensions/broken.raw && systemd-sysext refresh');
    expect(await machine.run('demo')).toBe('demo 2.0.0');
  });

  inMachine('every mode of --mutable= writes where it should, persists or vanishes, and is cleanly unmerged', async (machine) => {
    const conf = await demoImages(folder, [bound], { name: 'conf', kind: 'confext' });
    await machine.copyIn(imageFor(conf, bound).file, '/opt/extensions/conf/conf.raw');
    await machine.run('mkdir -p /var/lib/confexts && ln -s /opt/extensions/conf/conf.raw /var/lib/confexts/');
    await mutableModes(machine);
    await machine.run('rm /var/lib/confexts/conf.raw && systemd-sysext refresh');
  });

  inMachine('image policies: signed takes ours and nothing else', async (machine) => {
    await imagePolicies(machine, { ...bound, format: 'ddi' }, folder, { foreignIsVerity: false });
  });

  inMachine('a reboot keeps the merge', async (machine) => {
    await machine.reboot();
    expect(await machine.run('demo')).toBe('demo 2.0.0');
    await machine.until('systemctl is-active demo.service');
  });

  inMachine(
    'an update of the OS and its rollback have the image of their release merged, without network',
    async (machine) => {
      expect(await machine.run('ip -oneline link')).not.toMatch(/ (?:en|eth)\w+:/);
      await machine.bootInto(previous);
      expect(await machine.run(STATUS)).toContain(`demo-${previous.number}`);
      expect(await machine.run('demo')).toBe('demo 1.0.0');
      await machine.bootInto(bound);
      expect(await machine.run(STATUS)).toContain(`demo-${bound.number}`);
      expect(await machine.run('demo')).toBe('demo 2.0.0');
      expect(await machine.run('systemctl --failed --no-legend')).toBe('');
    },
    standInOnly('a real Flatcar gets another /usr by its own update only'),
  );
});
