// Packing and binding the payload of kubernetes, and builds of it.
import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  bindMany,
  buildExtension,
  catalogue,
  hostArch,
  loadExtension,
  newestFirst,
  packErofs,
  packSquashfs,
  payloadBase,
  readTree,
  stageReleaseFile,
  unpackImage,
  type Payload,
  type Profile,
  type Release,
  type Store,
  type Tools,
  type Tree,
} from '@flatcar/core/engine';
import { withFreshStore } from '@flatcar/workspace/fresh-store';
import { measure, repository, say, seconds, type Measured, type Results } from './measure.ts';

const EXTENSION = { name: 'kubernetes', kind: 'sysext' } as const;

/** What the measurements of one run share. */
interface Bench {
  readonly store: Store;
  readonly tools: Tools;
  /** Folder for everything that is written. */
  readonly temp: string;
}

/** A built payload for each format, and its files. */
interface Built {
  readonly tree: Tree;
  readonly squashfs: { readonly payload: Payload; readonly file: string };
  readonly ddi: { readonly payload: Payload; readonly file: string };
}

async function build({ store, tools, temp }: Bench): Promise<Built> {
  const loaded = await loadExtension(join(repository, 'extensions', EXTENSION.name));
  const [version = ''] = newestFirst(Object.keys(loaded.pins));
  const arch = hostArch();
  const made = await buildExtension(loaded, {
    version,
    arch,
    targets: [
      'portable',
      ...catalogue()
        .filter(({ format }) => format === 'ddi')
        .slice(0, 1),
    ],
    profile: 'publish',
    origin: 'auto',
    out: join(temp, 'built'),
    store,
    tools,
    report: (event) => event.type === 'step' && say(event.text),
  });
  const image = made.images.find(({ target }) => target === 'portable');
  const [squashfs, ddi] = (['squashfs', 'ddi'] as const).map((format) => made.payloads.find((payload) => payload.format === format));
  if (image === undefined || squashfs === undefined || ddi === undefined)
    throw new Error('the build wrote no portable image or no payload');
  const dir = join(temp, 'tree');
  await unpackImage(tools, image.file, 'squashfs', arch, dir);
  await stageReleaseFile(dir, { ...EXTENSION, version, arch, target: 'portable', reload: true });
  return {
    tree: await readTree(dir, new Map()),
    squashfs: { payload: squashfs, file: image.file },
    ddi: { payload: ddi, file: join(temp, 'built/payload', `${payloadBase(EXTENSION.name, ddi.version, arch)}.ddi`) },
  };
}

type Packed = Required<Pick<Measured, 'seconds' | 'bytes'>> & Pick<Measured, 'memory'>;

/** Time and size of the payload's tree packed by mksquashfs itself, and by the profiles. */
async function pack(
  { tools, temp }: Bench,
  tree: Tree,
): Promise<Record<'defaults' | 'flatcar' | 'fast' | 'publish', Packed> & { erofs: number }> {
  const { command, args } = await tools.command('mksquashfs');
  const out = join(temp, 'out.raw');
  const baseline = async (name: string, more: readonly string[]): Promise<Packed> => {
    say(`packing: ${name}`);
    const measured = await measure(command, [...args, tree.dir, out, '-noappend', '-no-progress', '-quiet', '-all-root', ...more]);
    return { ...measured, bytes: (await stat(out)).size };
  };
  const ours = async (profile: Profile): Promise<Packed> => {
    say(`packing: ${profile}`);
    const time = await seconds(() => packSquashfs(tools, tree, { ...EXTENSION, profile }, out));
    return { seconds: time, bytes: (await stat(out)).size };
  };
  const defaults = await baseline('mksquashfs defaults', []);
  const flatcar = await baseline("Flatcar's own settings", ['-comp', 'zstd', '-Xcompression-level', '22', '-b', '512K']);
  const [fast, publish] = [await ours('fast'), await ours('publish')];
  say('packing: erofs, publish');
  const erofs = await seconds(() => packErofs(tools, tree, { ...EXTENSION, profile: 'publish' }, out));
  return { defaults, flatcar, fast, publish, erofs };
}

/** Seconds that one more release costs: many bindings at once, compared with one. */
async function bindCost({ store, tools, temp }: Bench, { payload, file }: Built['ddi'], releases: readonly Release[]): Promise<number> {
  const folder = join(temp, 'bound');
  await mkdir(folder, { recursive: true });
  const jobs = releases.map((target) => ({ target, out: join(folder, `${target.number}.raw`) }));
  const bind = (count: number): Promise<number> => seconds(() => bindMany(payload, file, jobs.slice(0, count), { tools, store }));
  await bind(1); // the page cache is warm for both
  const one = await bind(1);
  const all = await bind(jobs.length);
  await rm(folder, { recursive: true });
  return (all - one) / (jobs.length - 1);
}

/** Seconds of a build whose store has downloads only. */
async function buildFromNothing({ store, temp }: Bench): Promise<number> {
  say('building from nothing');
  const args = ['flatcar-ext', 'build', EXTENSION.name, '--out', join(temp, 'full')];
  return withFreshStore(store, async ({ root }) => (await measure('scripts/run', args, { FLATCAR_EXT_CACHE: root })).seconds);
}

/** Measures the payload of kubernetes; `full` also builds it from nothing, which takes minutes. */
export async function kubernetes(store: Store, tools: Tools, { full }: { readonly full: boolean }): Promise<Results> {
  return store.withTemp(async (temp) => {
    const bench: Bench = { store, tools, temp };
    const { tree, squashfs, ddi } = await build(bench);
    const packed = await pack(bench, tree);
    const { defaults, flatcar, fast, publish, erofs } = packed;
    say('binding');
    const releases = (format: Release['format']): Release[] => catalogue().filter((one) => one.format === format);
    const squashfsBind = await bindCost(bench, squashfs, releases('squashfs'));
    const ddiBind = await bindCost(bench, ddi, releases('ddi'));
    say('a build with nothing to do');
    const again = ['turbo', 'run', 'build', `--filter=${EXTENSION.name}`];
    await measure('scripts/run', again);
    const nothing = await measure('scripts/run', again);
    const results: Results = {
      'tree, MiB': { value: tree.entries.reduce((sum, { size }) => sum + size, 0) / 2 ** 20 },
      'fast / defaults, wall time': { value: fast.seconds / defaults.seconds, aim: '≤ 0.125' },
      "fast / Flatcar's, wall time": { value: fast.seconds / flatcar.seconds },
      'fast / defaults, size': { value: fast.bytes / defaults.bytes },
      'publish / defaults, size': { value: publish.bytes / defaults.bytes, aim: '≤ 0.80' },
      "publish / Flatcar's, size": { value: publish.bytes / flatcar.bytes },
      "publish / Flatcar's, wall time": { value: publish.seconds / flatcar.seconds },
      'bind to one more release / publish pack (squashfs)': { value: squashfsBind / publish.seconds, aim: '≤ 0.01 without digests' },
      'bind to one more release / publish pack (disk image)': { value: ddiBind / erofs, aim: '≤ 0.03' },
      'a build with nothing to do, seconds': { value: nothing.seconds, aim: '< 1.5' },
      'peak memory of mksquashfs defaults, MiB': { value: (defaults.memory ?? 0) / 2 ** 20 },
      'peak memory of this process, MiB': { value: process.resourceUsage().maxRSS / 1024 },
    };
    if (!full) return results;
    const all = await buildFromNothing(bench);
    return {
      ...results,
      'build from nothing, seconds': { value: all, aim: '< 720' },
      'a build with nothing to do / build from nothing': { value: nothing.seconds / all },
    };
  });
}
