// @module-tag full
// Programs at a fixed address are relocated, too: Debian's Python is the one that many ask for.
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  ARCHES,
  buildExtension,
  channelHead,
  completeRelocation,
  debian,
  defineExtension,
  hostArch,
  openArchive,
  openStore,
  openTools,
  packaged,
  resolveClosure,
  resolvePackages,
  RUNTIME_PACKAGES,
  unpackPackage,
} from '@flatcar/core/engine';
import { expect } from 'vitest';
import { withHost } from '../src/merge/host.ts';
import { mergeTest } from '../src/levels.ts';

const store = openStore();
const tools = openTools(store);
const archive = openArchive(store);
const suite = 'trixie';

/** Debian's Python with what it needs, as `new --debian python3` proposes it. */
async function pythonOrigin(): Promise<ReturnType<typeof debian>> {
  const { snapshot, packages } = await archive.newest(suite, 'x86-64');
  return store.withTemp(async (temp) => {
    const unpacked = [];
    for (const one of resolveClosure(packages, ['python3', ...RUNTIME_PACKAGES])) {
      const dir = join(temp, one.name);
      const file = await archive.fetchPackage(one, { suite, snapshot, arch: 'x86-64', repin: 'run this again' });
      await unpackPackage(file, dir, { decompressor: (kind) => tools.command(kind) });
      unpacked.push({ name: one.name, source: one.source, dir });
    }
    const origin = debian(['python3'], { programs: ['python3'] });
    const made = await completeRelocation({
      packages: unpacked,
      origin,
      name: 'python3',
      version: '3.13',
      arch: 'x86-64',
      limit: 20 << 20,
    });
    return made.origin;
  });
}

mergeTest('Python, which is at a fixed address, runs on its own libraries and loads its modules, on both architectures', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'python-'));
  try {
    await mkdir(join(dir, 'python3'));
    const component = packaged('python3', '2026.11.27', await pythonOrigin());
    const extension = defineExtension({
      name: 'python3',
      summary: 'Python',
      versions: { kind: 'date', track: 'newest' },
      components: () => [component],
    });
    for (const arch of ARCHES) {
      const [origin] = component.origins;
      if (origin?.kind !== 'debian') throw new Error('the origin is of another kind');
      const { snapshot, packages } = await resolvePackages(origin, component, arch, { store, archive });
      const bytes = Object.fromEntries(packages.map(({ locator, sha256, size, proof }) => [locator, { sha256, size, proof }]));
      const pins = { '2026.11.27': { revision: 0, coupled: {}, licenses: { python3: 'PSF-2.0' }, snapshot, bytes } };
      const { images } = await buildExtension(
        { dir: join(dir, 'python3'), extension, pins, fixture: true },
        {
          version: '2026.11.27',
          arch,
          targets: ['portable'],
          profile: 'fast',
          origin: 'auto',
          out: join(dir, 'out', arch),
          store,
          tools,
          report: () => undefined,
        },
      );
      await withHost({ release: channelHead('stable').number }, async (host) => {
        await host.install(images[0]?.file ?? '', 'python3.raw');
        expect(await host.merge({ force: arch !== hostArch() })).toContain("Using extensions 'python3");
        const script = 'import ssl, ctypes, sqlite3, zlib, encodings.idna; print("loaded", ssl.OPENSSL_VERSION.split()[0])';
        expect(await host.run(['python3', '-c', script], { arch }), arch).toBe('loaded OpenSSL');
      });
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
