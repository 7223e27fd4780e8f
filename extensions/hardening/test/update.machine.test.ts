// The confext on booted nodes of both eras: there from the boot on, updated and taken away while the node runs, and its owner's own files stay.
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  afterAll,
  beforeAll,
  buildExtension,
  buildImages,
  channelHead,
  describe,
  expect,
  extensionFolder,
  hostArch,
  linkPath,
  loadExtension,
  openStore,
  openTools,
  sharedMachine,
  type Image,
  type Release,
} from '@flatcar/testing';

const SYSCTL = 'etc/sysctl.d/90-hardening.conf';
const SSHD = 'etc/ssh/sshd_config.d/10-hardening.conf';
const MODPROBE = 'etc/modprobe.d/90-hardening.conf';

/** How /etc stays writable: what README.md says for releases up to 4593, and what Flatcar has by itself from 4628 on. */
const MUTABLE: Readonly<Record<Release['mergeStage'], Readonly<Record<string, string>>>> = {
  system: { '/etc/systemd/system/systemd-confext.service.d/mutable.conf': '[Service]\nEnvironment=SYSTEMD_CONFEXT_MUTABLE_MODE=auto\n' },
  initrd: { '/etc/systemd/confext.conf': '[ConfExt]\nMutable=auto\n' },
};

/** What a later version might be: other values, and a file less. */
async function laterImage(folder: string, release: Release): Promise<Image> {
  const { extension } = await loadExtension(extensionFolder(import.meta.dirname));
  const dir = await mkdtemp(join(folder, 'later-'));
  await cp(join(import.meta.dirname, '../files'), join(dir, 'files'), { recursive: true });
  const edit = async (path: string, from: string, to: string): Promise<void> => {
    const text = await readFile(join(dir, 'files', path), 'utf8');
    if (!text.includes(from)) throw new Error(`'${from}' is not in ${path}`);
    await writeFile(join(dir, 'files', path), text.replace(from, to));
  };
  await edit(SYSCTL, 'kernel.kptr_restrict = 2', 'kernel.kptr_restrict = 1');
  await edit(SSHD, 'MaxAuthTries 4', 'MaxAuthTries 3');
  await rm(join(dir, 'files', MODPROBE));
  const version = '2099.12.31';
  const store = openStore();
  const { images } = await buildExtension(
    {
      dir,
      extension: { ...extension, requiredPaths: extension.requiredPaths.filter((path) => path !== MODPROBE) },
      pins: { [version]: { revision: 0, coupled: {}, licenses: {}, bytes: {} } },
      fixture: true,
    },
    {
      version,
      arch: hostArch(),
      targets: [release],
      profile: 'fast',
      origin: 'auto',
      out: join(dir, 'out'),
      store,
      tools: openTools(store),
      report: () => undefined,
    },
  );
  const [image] = images;
  if (image === undefined) throw new Error('the build made no image');
  return image;
}

for (const release of [channelHead('stable'), channelHead('beta')])
  describe(`${release.number}, merged in the ${release.mergeStage === 'system' ? 'final system' : 'initrd'}`, () => {
    let folder: string;
    let image: Image;
    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'hardening-'));
    });
    afterAll(() => rm(folder, { recursive: true, force: true }));

    const inMachine = sharedMachine(async () => {
      const [found] = await buildImages(import.meta.dirname, hostArch(), [release]);
      if (found === undefined) throw new Error('the build made no image');
      image = found;
      return {
        release,
        images: [{ image }],
        seed: {
          files: { '/etc/ssh/sshd_config.d/05-own.conf': 'MaxSessions 7\n', ...MUTABLE[release.mergeStage] },
          links: { '/var/lib/extensions.mutable/etc': '/etc' },
        },
      };
    });
    // OpenSSH 10.6 writes the names in mixed case.
    const SETTINGS = `mkdir -p /run/sshd && sshd -T | tr A-Z a-z | sort | grep -E '^(passwordauthentication|maxauthtries|maxsessions) '; sysctl --values kernel.kptr_restrict; modprobe --show-depends hfsplus | grep -c /bin/false`;

    inMachine('is there from the boot on, and what its owner writes below /etc stays', async (machine) => {
      await machine.until('systemctl is-active hardening-sysctl.service');
      expect(await machine.run(`${SETTINGS}; true`)).toBe('maxauthtries 4\nmaxsessions 7\npasswordauthentication no\n2\n1');
      await machine.run('echo own >/etc/own.conf');
    });

    inMachine('an update takes the place of the old image', async (machine) => {
      const path = '/opt/extensions/hardening/later.raw';
      await machine.copyIn((await laterImage(folder, release)).file, path);
      await machine.run(`ln -sfn ${path} ${linkPath({ image })} && systemctl restart systemd-confext`);
      await machine.until('systemctl is-active hardening-sysctl.service && [ "$(sysctl --values kernel.kptr_restrict)" = 1 ]');
      expect(await machine.run(`${SETTINGS}; true`)).toBe('maxauthtries 3\nmaxsessions 7\npasswordauthentication no\n1\n0');
      expect((await machine.ask(`test -e /${MODPROBE}`)).code).not.toBe(0);
      expect(await machine.run('cat /etc/own.conf')).toBe('own');
    });

    inMachine('without it sshd is as before, kernel settings stay until the next boot, and nothing has failed', async (machine) => {
      await machine.run(`rm ${linkPath({ image })} && systemctl restart systemd-confext`);
      expect(await machine.run(`${SETTINGS}; true`)).toBe('maxauthtries 6\nmaxsessions 7\npasswordauthentication yes\n1\n0');
      for (const path of [SYSCTL, SSHD]) expect((await machine.ask(`test -e /${path}`)).code, path).not.toBe(0);
      expect(await machine.run('systemd-confext status --no-pager --no-legend')).not.toContain('hardening');
      expect(await machine.run('cat /etc/own.conf')).toBe('own');
      await machine.run('echo more >>/etc/own.conf');
      expect(await machine.run('systemctl --failed --no-legend')).toBe('');
    });
  });
