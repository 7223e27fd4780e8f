// npm run bench: speed and size as ratios, measured in one run on the kubernetes payload and on hypervisor-qemu.
import { spawn } from 'node:child_process';
import { glob, mkdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  bindMany,
  buildExtension,
  catalogue,
  componentsOf,
  debianMirror,
  exec,
  hostArch,
  loadExtension,
  newestFirst,
  openStore,
  openTools,
  packErofs,
  packSquashfs,
  payloadBase,
  readTree,
  stageReleaseFile,
  unpackImage,
  type Payload,
  type Profile,
  type Release,
  type Tree,
} from '@flatcar/core/engine';

const PARTS = ['kubernetes', 'hypervisor-qemu'];
const { values } = parseArgs({
  options: { json: { type: 'boolean' }, full: { type: 'boolean' }, help: { type: 'boolean' }, only: { type: 'string' } },
});
if (values.help === true) {
  console.log(
    `npm run bench -- [--json] [--full] [--only PART]

kubernetes       packing and binding of its payload, and a build with nothing to do; --full also builds it from nothing (minutes)
hypervisor-qemu  made of its packages, beside what mkosi makes of the same (skipped where mkosi is not installed)`,
  );
  process.exit(0);
}
if (values.only !== undefined && !PARTS.includes(values.only)) {
  console.error(`--only ${values.only}: the parts are ${PARTS.join(' and ')}`);
  process.exit(2);
}

/** One measured thing. */
interface Measured {
  readonly seconds: number;
  readonly bytes?: number;
  /** Highest resident memory of the process, in bytes. */
  readonly memory?: number;
}

const repository = join(import.meta.dirname, '../..');
const store = openStore();
const say = (text: string): void => console.error(text);
const tools = openTools(store, (event) => event.type === 'step' && say(event.text));

/** Runs a program and measures its wall time and its peak memory (VmHWM of proc(5), read while it runs). */
async function measure(command: string, args: readonly string[], env: Record<string, string> = {}): Promise<Measured> {
  const started = performance.now();
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'], cwd: repository, env: { ...process.env, ...env } });
  let memory = 0;
  const watch = setInterval(() => {
    readFile(`/proc/${child.pid}/status`, 'utf8').then(
      (status) => (memory = Math.max(memory, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024)),
      () => undefined, // it has just ended
    );
  }, 50);
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  clearInterval(watch);
  if (code !== 0) throw new Error(`${command} failed with ${code}`);
  return { seconds: (performance.now() - started) / 1000, memory };
}

const timed = async (run: () => Promise<unknown>): Promise<Measured> => {
  const started = performance.now();
  await run();
  return { seconds: (performance.now() - started) / 1000 };
};

async function main(): Promise<Record<string, { value: number; aim?: string }>> {
  const loaded = await loadExtension(join(repository, 'extensions/kubernetes'));
  const [version = ''] = newestFirst(Object.keys(loaded.pins));
  return store.withTemp(async (temp) => {
    const squashfsReleases = catalogue().filter(({ format }) => format === 'squashfs');
    const ddiReleases = catalogue().filter(({ format }) => format === 'ddi');
    const made = await buildExtension(loaded, {
      version,
      arch: hostArch(),
      targets: ['portable', ...ddiReleases.slice(0, 1)],
      profile: 'publish',
      origin: 'auto',
      out: join(temp, 'built'),
      store,
      tools,
      report: (event) => event.type === 'step' && say(event.text),
    });
    const image = made.images.find(({ target }) => target === 'portable');
    const payloadOf = (format: Payload['format']): Payload =>
      made.payloads.find((payload) => payload.format === format) ?? made.payloads[0]!;
    if (image === undefined) throw new Error('the build made no portable image');

    const dir = join(temp, 'tree');
    await unpackImage(tools, image.file, 'squashfs', hostArch(), dir);
    await stageReleaseFile(dir, { name: 'kubernetes', kind: 'sysext', version, arch: hostArch(), target: 'portable', reload: true });
    const tree: Tree = await readTree(dir, new Map());
    const { command, args } = await tools.command('mksquashfs');
    const out = join(temp, 'out.raw');
    const baseline = async (name: string, more: readonly string[]): Promise<Measured & { bytes: number }> => {
      say(`packing: ${name}`);
      const measured = await measure(command, [...args, dir, out, '-noappend', '-no-progress', '-quiet', '-all-root', ...more]);
      return { ...measured, bytes: (await stat(out)).size };
    };
    const ours = async (profile: Profile): Promise<Measured & { bytes: number }> => {
      say(`packing: ${profile}`);
      const measured = await timed(() => packSquashfs(tools, tree, { name: 'kubernetes', kind: 'sysext', profile }, out));
      return { ...measured, bytes: (await stat(out)).size };
    };
    const defaults = await baseline('mksquashfs defaults', []);
    const flatcar = await baseline("Flatcar's own settings", ['-comp', 'zstd', '-Xcompression-level', '22', '-b', '512K']);
    const fast = await ours('fast');
    const release = await ours('publish');
    say('packing: erofs, release');
    const erofs = await timed(() => packErofs(tools, tree, { name: 'kubernetes', kind: 'sysext', profile: 'publish' }, out));

    // What one more release costs: many bindings in one go against one fewer of them.
    const bindCost = async (payload: Payload, file: string, releases: readonly Release[]): Promise<number> => {
      const folder = join(temp, 'bound');
      await mkdir(folder, { recursive: true });
      const jobs = releases.map((target) => ({ target, out: join(folder, `${target.number}.raw`) }));
      const bind = (count: number): Promise<Measured> => timed(() => bindMany(payload, file, jobs.slice(0, count), { tools, store }));
      await bind(1); // the page cache is warm for both
      const one = await bind(1);
      const all = await bind(jobs.length);
      await rm(folder, { recursive: true });
      return (all.seconds - one.seconds) / (jobs.length - 1);
    };
    say('binding');
    const squashfsBind = await bindCost(payloadOf('squashfs'), image.file, squashfsReleases);
    const ddi = payloadOf('ddi');
    const ddiFile = join(temp, 'built/payload', `${payloadBase('kubernetes', ddi.version, hostArch())}.ddi`);
    const ddiBind = await bindCost(ddi, ddiFile, ddiReleases);

    say('a build with nothing to do');
    const build = ['turbo', 'run', 'build', '--filter=kubernetes'];
    await measure('scripts/run', build);
    const nothing = await measure('scripts/run', build);
    const result: Record<string, { value: number; aim?: string }> = {
      'tree, MiB': { value: tree.entries.reduce((sum, { size }) => sum + size, 0) / 2 ** 20 },
      'fast / defaults, wall time': { value: fast.seconds / defaults.seconds, aim: '≤ 0.125' },
      "fast / Flatcar's, wall time": { value: fast.seconds / flatcar.seconds },
      'fast / defaults, size': { value: fast.bytes / defaults.bytes },
      'release / defaults, size': { value: release.bytes / defaults.bytes, aim: '≤ 0.82' },
      "release / Flatcar's, size": { value: release.bytes / flatcar.bytes },
      "release / Flatcar's, wall time": { value: release.seconds / flatcar.seconds },
      'bind to one more release / release pack (squashfs)': { value: squashfsBind / release.seconds, aim: '≤ 0.01 without digests' },
      'bind to one more release / release pack (disk image)': { value: ddiBind / erofs.seconds, aim: '≤ 0.03' },
      'a build with nothing to do, seconds': { value: nothing.seconds, aim: '< 1.5' },
      'peak memory of mksquashfs defaults, MiB': { value: (defaults.memory ?? 0) / 2 ** 20 },
      'peak memory of this process, MiB': { value: process.resourceUsage().maxRSS / 1024 },
    };
    if (values.full === true) {
      say('building from nothing');
      const root = join(temp, 'store');
      await mkdir(join(root, 'go'), { recursive: true });
      for (const shared of ['blobs', 'go/mod']) await symlink(join(store.root, shared), join(root, shared));
      const full = await measure('scripts/run', ['flatcar-ext', 'build', 'kubernetes', '--out', join(temp, 'full')], {
        FLATCAR_EXT_CACHE: root,
      });
      result['build from nothing, seconds'] = { value: full.seconds, aim: '< 720' };
      result['a build with nothing to do / build from nothing'] = { value: nothing.seconds / full.seconds };
    }
    return result;
  });
}

const installed = (program: string): Promise<boolean> =>
  exec('sh', ['-c', `command -v ${program}`]).then(
    () => true,
    () => false,
  );

/** Programs on libraries of their own, beside what mkosi makes of the same packages: a sysext with all that they depend on. */
async function relocated(): Promise<Record<string, { value: number; aim?: string }>> {
  const loaded = await loadExtension(join(repository, 'extensions/hypervisor-qemu'));
  const { components } = await componentsOf(loaded, newestFirst(Object.keys(loaded.pins))[0] ?? '');
  const origin = components[0]?.component.origins[0];
  if (origin?.kind !== 'debian') throw new Error('hypervisor-qemu is not made of packages');
  return store.withTemp(async (temp) => {
    const build = async (root: string): Promise<Measured & { bytes: number }> => {
      const own = openStore(root);
      const started = performance.now();
      const { images } = await buildExtension(loaded, {
        version: newestFirst(Object.keys(loaded.pins))[0] ?? '',
        arch: hostArch(),
        targets: ['portable'],
        profile: 'publish',
        origin: 'auto',
        out: join(temp, 'qemu'),
        store: own,
        tools: openTools(own),
        report: (event) => event.type === 'step' && !event.text.startsWith('fetching') && say(event.text),
      });
      return { seconds: (performance.now() - started) / 1000, bytes: images[0]?.size ?? 0 };
    };
    // A store of its own, with the downloads and tools of the other: what is measured is the work.
    const root = join(temp, 'store');
    await mkdir(join(root, 'results'), { recursive: true });
    for (const shared of ['blobs', 'results/tools']) await symlink(join(store.root, shared), join(root, shared));
    say('hypervisor-qemu from its packages');
    const ours = await build(root);
    const rows = {
      'hypervisor-qemu, MiB': { value: ours.bytes / 2 ** 20 },
      'hypervisor-qemu from its packages, seconds': { value: ours.seconds },
    };
    if (!(await installed('mkosi'))) {
      say('skipped: hypervisor-qemu beside mkosi, which is not installed (apt-get install mkosi)');
      return rows;
    }
    say('the same packages by mkosi');
    const folder = join(temp, 'mkosi');
    await mkdir(folder);
    // Documentation goes when it is packed: mkosi 14 removes it in a container, which needs systemd to run.
    const config = [
      '[Distribution]',
      'Distribution=debian',
      `Release=${origin.suite}`,
      `Mirror=${await debianMirror()}`,
      '[Output]',
      'Format=directory',
      'Output=image',
      '[Content]',
      `Packages=${origin.packages.join(',')}`,
      'WithDocs=yes',
      '',
    ];
    await writeFile(join(folder, 'mkosi.conf'), config.join('\n'));
    const mkosi = await measure('mkosi', ['--directory', folder, '--force', '--output-dir', join(temp, 'mkosi-out'), 'build']);
    const { command, args } = await tools.command('mksquashfs');
    const out = join(temp, 'mkosi.raw');
    // mkosi 14 has a folder for each distribution in between.
    const [usr] = await Array.fromAsync(glob('{image,*/image}/usr', { cwd: join(temp, 'mkosi-out') }));
    if (usr === undefined) throw new Error('mkosi made no image');
    const packed = await measure(command, [
      ...args,
      join(temp, 'mkosi-out', usr),
      out,
      '-noappend',
      '-no-progress',
      '-quiet',
      '-comp',
      'zstd',
      '-Xcompression-level',
      '22',
      '-e',
      'share/doc',
      'share/man',
      'share/info',
      'share/locale',
    ]);
    return {
      ...rows,
      "hypervisor-qemu / mkosi's /usr of the same packages and a base, size": { value: ours.bytes / (await stat(out)).size },
      'hypervisor-qemu from its packages / mkosi, which downloads too, wall time': {
        value: ours.seconds / (mkosi.seconds + packed.seconds),
      },
    };
  });
}

const wanted = (part: string): boolean => values.only === undefined || values.only === part;
const result = { ...(wanted('kubernetes') ? await main() : {}), ...(wanted('hypervisor-qemu') ? await relocated() : {}) };
if (values.json === true) console.log(JSON.stringify(result, undefined, 2));
else
  for (const [name, { value, aim }] of Object.entries(result))
    console.log(`${name.padEnd(72)} ${value.toFixed(value < 0.1 ? 4 : 2).padStart(10)}  ${aim ?? ''}`);
