import { copyFile, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Image, Release, SignKeys } from '@flatcar/core/engine';
import { expect, type Machine } from '../../src/index.ts';
import { demoImages, newKeys } from './demo.ts';

const STRICT = 'root=signed+absent:usr=signed+absent';
const LAX = 'root=verity+signed+absent:usr=verity+signed+absent';

/** A copy with one byte of its data flipped, in the block of which `find` is part. */
async function flipped(file: string, find: string, out: string): Promise<string> {
  await copyFile(file, out);
  const data = await readFile(out);
  const at = data.indexOf(find);
  if (at === -1) throw new Error(`'${find}' is not in ${file}`);
  const handle = await open(out, 'r+');
  try {
    await handle.write(Buffer.from([(data[at] ?? 0) ^ 1]), 0, 1, at);
  } finally {
    await handle.close();
  }
  return out;
}

/** Disk images of each kind that a policy tells apart, for the release that a machine runs, and our keys. */
export async function policyImages(folder: string, release: Release): Promise<{ keys: SignKeys; files: Readonly<Record<string, string>> }> {
  const [ours, theirs] = [await newKeys(folder, 'ours'), await newKeys(folder, 'theirs')];
  const one = async (name: string, sign?: typeof ours, target: Release | 'portable' = release): Promise<string> =>
    ((await demoImages(folder, [target], { name, ...(sign === undefined ? {} : { sign }) }))[0] as Image).file;
  const good = await one('good', ours);
  return {
    keys: ours,
    files: {
      good,
      unsigned: await one('unsigned'), // the same partitions but for the signature's
      foreign: await one('foreign', theirs),
      bare: await one('bare', undefined, 'portable'), // a squashfs: no verity at all
      flipped: await flipped(await one('flipped', ours), 'VERSION_ID=', join(folder, 'flipped.raw')),
    },
  };
}

/** Asks `systemd-sysext refresh` under each policy, one image at a time; the good one is the control that the others were refused for what they are. */
export async function imagePolicies(
  machine: Machine,
  release: Release,
  folder: string,
  systemd: { readonly foreignIsVerity: boolean },
): Promise<void> {
  const { keys, files } = await policyImages(folder, release);
  await machine.copyIn(keys.certificate, '/etc/verity.d/ours.crt');
  await machine.run('mkdir -p /root/links && mv /etc/extensions/* /root/links/ && systemd-sysext unmerge');
  const merges = async (name: string, policy: string): Promise<boolean> => {
    await machine.run(
      `rm -f /etc/extensions/* && ln -s /opt/extensions/policy/${name}.raw /etc/extensions/ && { systemd-sysext unmerge || true; }`,
    );
    const { said } = await machine.ask(`systemd-sysext refresh --image-policy='${policy}'`);
    const { code } = await machine.ask(`test -e /usr/bin/${name}`);
    if (code !== 0) expect(said, name).not.toContain('Merged extensions');
    return code === 0;
  };
  for (const [name, file] of Object.entries(files)) await machine.copyIn(file, `/opt/extensions/policy/${name}.raw`);
  const found: Record<string, string> = {};
  for (const name of Object.keys(files)) found[name] = `strict=${await merges(name, STRICT)} lax=${await merges(name, LAX)}`;
  expect(found).toEqual({
    good: 'strict=true lax=true',
    unsigned: 'strict=false lax=true',
    // `verity+signed` are alternatives. To systemd 262 an image without a known key is one with verity; 257 refuses it.
    foreign: `strict=false lax=${systemd.foreignIsVerity}`,
    bare: 'strict=false lax=false',
    flipped: 'strict=false lax=false',
  });
  await machine.run('rm /etc/extensions/* && mv /root/links/* /etc/extensions/ && systemd-sysext refresh');
}

/** The script that has the initrd judge the images of `policyImages` below /opt/extensions/policy; what it says is in /run/initrd-said. */
export const INITRD_POLICIES = join(import.meta.dirname, '../guest/initrd-policies.sh');

/** What guest/mutable.sh finds, by what stands in /var/lib/extensions.mutable before the merge (systemd-sysext(8), docs/mutable-overlays.md). */
const EXPECTED_MODES: Readonly<Record<'folder' | 'absent' | 'link', string>> = {
  folder: `no merged=yes kept=no written=no persists=no clean=yes
auto merged=yes kept=yes written=yes persists=yes clean=yes
yes merged=yes kept=yes written=yes persists=yes clean=yes
import merged=yes kept=yes written=no persists=no clean=yes
ephemeral merged=yes kept=no written=yes persists=no clean=yes
ephemeral-import merged=yes kept=yes written=yes persists=no clean=yes`,
  absent: `no merged=yes kept=no written=no persists=no clean=yes
auto merged=yes kept=no written=no persists=no clean=yes
yes merged=yes kept=no written=yes persists=yes clean=yes
import merged=yes kept=no written=no persists=no clean=yes
ephemeral merged=yes kept=no written=yes persists=no clean=yes
ephemeral-import merged=yes kept=no written=yes persists=no clean=yes`,
  // The hierarchy as its own upper layer, as Flatcar has it for /etc: importing it is refused.
  link: `no merged=yes kept=no written=no persists=no clean=yes
auto merged=yes kept=no written=yes persists=yes clean=yes
yes merged=yes kept=no written=yes persists=yes clean=yes
import merged=no kept=no written=yes persists=yes clean=yes
ephemeral merged=yes kept=no written=yes persists=no clean=yes
ephemeral-import merged=no kept=no written=yes persists=yes clean=yes`,
};

/** Tries every mode of `--mutable=` with the sysexts and confexts of a machine, of which one at least has to be for its release; beside them, one with /opt. */
export async function mutableModes(machine: Machine): Promise<void> {
  await machine.copyIn(join(import.meta.dirname, '../guest/mutable.sh'), '/root/modes.sh');
  const opted = '/run/extensions/opted';
  await machine.run(`mkdir -p ${opted}/usr/lib/extension-release.d ${opted}/opt && touch ${opted}/opt/opted
    echo ID=_any >${opted}/usr/lib/extension-release.d/extension-release.opted
    systemd-sysext unmerge; systemd-confext unmerge; true`);
  for (const [kind, hierarchy] of [
    ['sysext', '/usr'],
    ['sysext', '/opt'],
    ['confext', '/etc'],
  ] as const)
    for (const upper of ['folder', 'absent', ...(kind === 'confext' ? (['link'] as const) : [])] as const)
      expect
        .soft(await machine.run(`bash /root/modes.sh ${kind} ${hierarchy} ${upper}`), `${hierarchy} ${upper}`)
        .toBe(EXPECTED_MODES[upper]);
  await machine.run(`rm -r ${opted}`);
}
