// What systemd does with images where the initrd merges them, as on Flatcar from 4628 on: strict policy and signed disk images.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { channelHead } from '@flatcar/core';
import { afterAll, beforeAll, describe, expect, sharedMachine } from '../src/index.ts';
import { demoImages } from './helpers/demo.ts';
import { EXPECTED_MODES, imagePolicies, MODES_SCRIPT, policyImages } from './helpers/systemd.ts';

const release = channelHead('beta');
const STRICT = 'root=signed+absent:usr=signed+absent';
const MERGED = 'systemd-sysext status --no-pager --no-legend | grep ^/usr';

describe(`${release.number}, merged in the initrd`, () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'machine-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const inMachine = sharedMachine(async () => {
    const { certificate, files } = await policyImages(folder, release);
    const [conf] = await demoImages(folder, [release], { name: 'conf', kind: 'confext' });
    if (conf === undefined || files['good'] === undefined) throw new Error('the build made no image');
    return {
      release,
      images: [{ image: conf }],
      seed: {
        files: {
          '/etc/systemd/sysext.conf': `[SysExt]\nImagePolicy=${STRICT}\n`,
          '/etc/verity.d/ours.crt': await readFile(certificate, 'utf8'),
        },
        copies: { '/opt/extensions/policy/good.raw': files['good'] },
        links: { '/etc/extensions/good.raw': '/opt/extensions/policy/good.raw' },
      },
    };
  });

  inMachine('the initrd merges our signed image under a strict policy, and a confext', async (machine) => {
    expect(await machine.run('journalctl --boot --unit=merge.service --no-pager')).toMatch(/Using extensions 'good/);
    expect(await machine.run(MERGED)).toContain('good');
    expect(await machine.run('good')).toBe('demo 1.0.0');
    await machine.until('systemctl is-active good.service');
    expect(await machine.run('cat /etc/conf.conf')).toBe('version=1.0.0');
  });

  inMachine('the initrd refuses an image whose signature is missing, and the machine boots without it', async (machine) => {
    await machine.run('systemd-confext unmerge');
    const { files } = await policyImages(folder, release);
    await machine.copyIn(files['unsigned'] ?? '', '/opt/extensions/policy/unsigned.raw');
    await machine.run('rm /etc/extensions/good.raw && ln -s /opt/extensions/policy/unsigned.raw /etc/extensions/');
    await machine.reboot();
    expect(await machine.run('journalctl --boot --unit=merge.service --no-pager')).toContain('does not match image policy');
    expect((await machine.ask('test -e /usr/bin/unsigned')).code).not.toBe(0);
    await machine.run(
      'systemd-confext unmerge; rm /etc/extensions/unsigned.raw /etc/systemd/sysext.conf; ln -s /opt/extensions/policy/good.raw /etc/extensions/',
    );
    await machine.run('systemd-sysext refresh && good');
  });

  inMachine('image policies: signed takes ours and nothing else', (machine) =>
    imagePolicies(machine, release, folder, { foreignIsVerity: true }),
  );

  inMachine('every mode of --mutable= writes where it should, persists or vanishes, and is cleanly unmerged', async (machine) => {
    await machine.copyIn(MODES_SCRIPT, '/root/modes.sh');
    await machine.run('systemd-sysext unmerge; systemd-confext unmerge || true');
    for (const [kind, hierarchy] of [
      ['sysext', '/usr'],
      ['confext', '/etc'],
    ] as const)
      for (const upper of ['folder', 'absent', ...(kind === 'confext' ? (['link'] as const) : [])] as const)
        expect
          .soft(await machine.run(`bash /root/modes.sh ${kind} ${hierarchy} ${upper}`), `${hierarchy} ${upper}`)
          .toBe(EXPECTED_MODES[upper]);
  });

  inMachine('units named in EXTENSION_RESTART_UNITS restart on a refresh', async (machine) => {
    const extension = '/run/extensions/restarter/usr/lib/extension-release.d';
    await machine.run('systemd-sysext refresh; systemctl restart good.service');
    const pid = await machine.run('systemctl show --property=MainPID --value good.service');
    await machine.run(
      `mkdir -p ${extension} && printf 'ID=_any\\nEXTENSION_RESTART_UNITS=good.service\\n' >${extension}/extension-release.restarter && systemd-sysext refresh`,
    );
    await machine.until(`systemctl is-active good.service && [ "$(systemctl show --property=MainPID --value good.service)" != ${pid} ]`);
  });
});
