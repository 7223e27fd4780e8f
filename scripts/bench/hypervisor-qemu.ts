// Relocated Debian packages, compared with what mkosi makes of the same packages.
import { glob, mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  buildExtension,
  componentsOf,
  debianMirror,
  exec,
  hostArch,
  loadExtension,
  newestFirst,
  openTools,
  type DebianOrigin,
  type LoadedExtension,
  type Store,
  type Tools,
} from '@flatcar/core/engine';
import { withFreshStore } from '@flatcar/workspace/fresh-store';
import { measure, repository, say, seconds, type Results } from './measure.ts';

const installed = (program: string): Promise<boolean> =>
  exec('sh', ['-c', `command -v ${program}`]).then(
    () => true,
    () => false,
  );

/** Seconds and bytes of a build from packages that are downloaded, with tools that are unpacked. */
async function buildImage(loaded: LoadedExtension, store: Store, out: string): Promise<{ seconds: number; bytes: number }> {
  let bytes = 0;
  const time = await seconds(async () => {
    const { images } = await buildExtension(loaded, {
      version: newestFirst(Object.keys(loaded.pins))[0] ?? '',
      arch: hostArch(),
      targets: ['portable'],
      profile: 'publish',
      origin: 'auto',
      out,
      store,
      tools: openTools(store),
      report: (event) => event.type === 'step' && !event.text.startsWith('fetching') && say(event.text),
    });
    bytes = images[0]?.size ?? 0;
  });
  return { seconds: time, bytes };
}

/** Seconds and bytes of a sysext that mkosi makes of the same packages and all that they depend on. */
async function buildByMkosi(tools: Tools, { suite, packages }: DebianOrigin, temp: string): Promise<{ seconds: number; bytes: number }> {
  const folder = join(temp, 'mkosi');
  await mkdir(folder);
  // Documentation is removed when it is packed: mkosi 14 removes it in a container, which needs systemd to run.
  const config = `[Distribution]
Distribution=debian
Release=${suite}
Mirror=${await debianMirror()}
[Output]
Format=directory
Output=image
[Content]
Packages=${packages.join(',')}
WithDocs=yes
`;
  await writeFile(join(folder, 'mkosi.conf'), config);
  const output = join(temp, 'mkosi-out');
  const mkosi = await measure('mkosi', ['--directory', folder, '--force', '--output-dir', output, 'build']);
  // mkosi 14 has a folder for each distribution in between.
  const [usr] = await Array.fromAsync(glob('{image,*/image}/usr', { cwd: output }));
  if (usr === undefined) throw new Error('mkosi wrote no image');
  const { command, args } = await tools.command('mksquashfs');
  const out = join(temp, 'mkosi.raw');
  const settings = ['-noappend', '-no-progress', '-quiet', '-comp', 'zstd', '-Xcompression-level', '22'];
  const without = ['-e', 'share/doc', 'share/man', 'share/info', 'share/locale'];
  const packed = await measure(command, [...args, join(output, usr), out, ...settings, ...without]);
  return { seconds: mkosi.seconds + packed.seconds, bytes: (await stat(out)).size };
}

/** Measures hypervisor-qemu; the comparison is skipped where mkosi is not installed. */
export async function hypervisorQemu(store: Store, tools: Tools): Promise<Results> {
  const loaded = await loadExtension(join(repository, 'extensions/hypervisor-qemu'));
  const { components } = await componentsOf(loaded, newestFirst(Object.keys(loaded.pins))[0] ?? '');
  const origin = components[0]?.component.origins[0];
  if (origin?.kind !== 'debian') throw new Error('hypervisor-qemu does not come from Debian packages');
  return store.withTemp(async (temp) => {
    say('hypervisor-qemu from its packages');
    // Downloads and unpacked tools are there: what is measured is the work.
    const ours = await withFreshStore(store, (fresh) => buildImage(loaded, fresh, join(temp, 'qemu')), { results: ['tools'] });
    const results: Results = {
      'hypervisor-qemu, MiB': { value: ours.bytes / 2 ** 20 },
      'hypervisor-qemu from its packages, seconds': { value: ours.seconds },
    };
    if (!(await installed('mkosi'))) {
      say('skipped: the comparison with mkosi, which is not installed (apt-get install mkosi)');
      return results;
    }
    say('the same packages by mkosi');
    const mkosi = await buildByMkosi(tools, origin, temp);
    return {
      ...results,
      "hypervisor-qemu / mkosi's /usr of the same packages and a base, size": { value: ours.bytes / mkosi.bytes },
      'hypervisor-qemu from its packages / mkosi, which downloads too, wall time': { value: ours.seconds / mkosi.seconds },
    };
  });
}
