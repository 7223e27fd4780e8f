// What systemd does with images where the initrd merges them, as on Flatcar from 4628 on: strict policy and signed disk images.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { catalogue } from '@flatcar/core/engine';
import { afterAll, beforeAll, describe, expect, sharedMachine, standInOnly } from '../src/index.ts';
import { demoImages } from './helpers/demo.ts';
import { imagePolicies, INITRD_POLICIES, mutableModes, policyImages } from './helpers/systemd.ts';

const [release, other] = catalogue().filter(({ mergeStage }) => mergeStage === 'initrd');
if (release === undefined || other === undefined) throw new Error('the catalogue has less than two releases that merge in the initrd');
const STRICT = 'root=signed+absent:usr=signed+absent';
const MERGED = 'systemd-sysext status --no-pager --no-legend';

describe(`${release.number}, merged in the initrd`, () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'machine-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const inMachine = sharedMachine(async () => {
    const { keys, files } = await policyImages(folder, release);
    const [conf] = await demoImages(folder, [release], { name: 'conf', kind: 'confext' });
    const [elsewhere] = await demoImages(folder, [other], { name: 'elsewhere', sign: keys });
    if (conf === undefined || elsewhere === undefined || files['good'] === undefined) throw new Error('the build made no image');
    return {
      release,
      images: [{ image: conf }, { image: elsewhere }],
      seed: {
        files: {
          '/etc/systemd/sysext.conf': `[SysExt]\nImagePolicy=${STRICT}\n`,
          '/etc/verity.d/ours.crt': await readFile(keys.certificate, 'utf8'),
          '/opt/test-agent/initrd': await readFile(INITRD_POLICIES, 'utf8'),
        },
        copies: Object.fromEntries(Object.entries(files).map(([name, file]) => [`/opt/extensions/policy/${name}.raw`, file])),
        links: { '/etc/extensions/good.raw': '/opt/extensions/policy/good.raw' },
      },
    };
  }, standInOnly("the initrd's own look at images is the stand-in's"));

  inMachine('the initrd merges our signed image under a strict policy, a confext, and none of another release', async (machine) => {
    expect(await machine.run('journalctl --boot --unit=merge.service --no-pager')).toMatch(/Using extensions 'good/);
    expect(await machine.run(MERGED)).toContain('good');
    expect(await machine.run(MERGED)).not.toContain('elsewhere');
    expect(await machine.run('good')).toBe('demo 1.0.0');
    await machine.until('systemctl is-active good.service');
    expect(await machine.run('cat /etc/conf.conf')).toBe('version=1.0.0');
  });

  inMachine(
    'the initrd refuses under it what has no verity, no signature, the signature of another key, or a flipped byte',
    async (machine) => {
      const said = await machine.run('cat /run/initrd-said');
      expect(
        said.split('\n').filter((line) => /: (?:taken|refused)$/.test(line)),
        said,
      ).toEqual(['bare: refused', 'flipped: refused', 'foreign: refused', 'good: taken', 'unsigned: refused']);
      await machine.run('rm /opt/test-agent/initrd');
    },
  );

  inMachine('a machine whose image the initrd refuses boots without it', async (machine) => {
    await machine.run('systemd-confext unmerge');
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

  inMachine('every mode of --mutable= writes where it should, persists or vanishes, and is cleanly unmerged', mutableModes);

  inMachine('units named in EXTENSION_RESTART_UNITS restart on a refresh', async (machine) => {
    const pid = async (): Promise<string> => machine.run('systemctl show --property=MainPID --value good.service');
    const add = (name: string, more: string): Promise<string> =>
      machine.run(
        `mkdir -p /run/extensions/${name}/usr/lib/extension-release.d && printf 'ID=_any\\n${more}' >/run/extensions/${name}/usr/lib/extension-release.d/extension-release.${name} && systemd-sysext refresh`,
      );
    await machine.run('systemd-sysext refresh; systemctl restart good.service');
    const before = await pid();
    await add('without', '');
    expect(await machine.run(MERGED)).toContain('without');
    expect(await pid()).toBe(before);
    await add('restarter', 'EXTENSION_RESTART_UNITS=good.service\\n');
    await machine.until(`systemctl is-active good.service && [ "$(systemctl show --property=MainPID --value good.service)" != ${before} ]`);
  });

  inMachine(
    'an update of the OS has the image of its release merged in the initrd, without network',
    async (machine) => {
      expect(await machine.run('ip -oneline link')).not.toMatch(/ (?:en|eth)\w+:/);
      await machine.bootInto(other);
      expect(await machine.run('journalctl --boot --unit=merge.service --no-pager')).toMatch(/Using extensions 'elsewhere/);
      expect(await machine.run(MERGED)).not.toContain('good');
      expect(await machine.run('elsewhere')).toBe('demo 1.0.0');
      await machine.until('systemctl is-active elsewhere.service');
    },
    standInOnly('a real Flatcar gets another /usr by its own update only'),
  );
});
