// @module-tag full
// Every extension of the tree, for both architectures: its records are valid, and publish takes it.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir, userInfo, hostname } from 'node:os';
import { basename, join, resolve } from 'node:path';
import {
  ARCHES,
  buildExtension,
  findExtensions,
  loadExtension,
  newestFirst,
  openStore,
  openTools,
  selectTargets,
  sidecarPaths,
  type Image,
  type LoadedExtension,
  type Manifest,
} from '@flatcar/core/engine';
import { evidenceProblems } from '@flatcar/testing';
import { unreachableReason } from '@flatcar/testing/extension/unreachable';
import { inCI } from '@flatcar/testing/levels';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { initKeys, loadKeys, localDestination, publish, type PublishKeys } from '../src/index.ts';

const repository = resolve(import.meta.dirname, '../../..');
const store = openStore();
const targets = selectTargets('portable,4593.2.5,4790.0.0');
const extensions = await findExtensions(repository);

let dir: string;
let keys: PublishKeys;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'every-extension-'));
  await initKeys(join(dir, 'keys'));
  keys = await loadKeys(join(dir, 'keys'), {});
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/**
 * Images of an extension's newest version that can be made here, from the origins that can be had: not every source is in an archive for ever. Or the
 * reason why there is none: upstream has the only files, and cannot be reached.
 */
async function build(loaded: LoadedExtension, arch: Image['arch'], out: string): Promise<readonly Image[] | string> {
  const errors: unknown[] = [];
  for (const version of newestFirst(Object.keys(loaded.pins))) {
    const made = await buildExtension(loaded, {
      version,
      arch,
      targets,
      profile: 'fast',
      origin: 'auto',
      out,
      store,
      tools: openTools(store),
      report: () => undefined,
      built: { gitCommit: 'a'.repeat(40), repository: 'https://git.example.org/fork' },
    }).catch((error: unknown) => void errors.push(error));
    if (made !== undefined) return made.images;
  }
  const reasons = errors.map(unreachableReason);
  if (!inCI() && !reasons.includes(undefined)) return reasons.join('; ');
  throw new AggregateError(errors, `no version of ${loaded.extension.name} can be made here`);
}

/** Packing for publishing takes hours for all of them: what was packed fast says that it was not. */
async function asPublished(image: Image): Promise<void> {
  const { manifest } = sidecarPaths(image.file);
  const text = await readFile(manifest, 'utf8');
  await writeFile(manifest, JSON.stringify({ ...(JSON.parse(text) as Manifest), profile: 'publish' }));
}

test.for(extensions.flatMap((folder) => ARCHES.map((arch) => [basename(folder), arch, folder] as const)))(
  '%s for %s: its bills of materials and build records are valid, say nothing of this machine, and publish takes it',
  async ([name, arch, folder], { skip }) => {
    const out = join(dir, `${name}-${arch}`);
    const tree = join(dir, `tree-${name}-${arch}`);
    try {
      const images = await build(await loadExtension(folder), arch, out);
      if (typeof images === 'string') return skip(images);
      const files = images.map(({ file }) => file);
      expect(await evidenceProblems(store, files)).toEqual([]);
      for (const file of files) {
        const { sbom, provenance, manifest } = sidecarPaths(file);
        for (const sidecar of [sbom, provenance, manifest]) {
          const text = await readFile(sidecar, 'utf8');
          for (const word of [dir, store.root, repository, userInfo().homedir, hostname()].filter((one) => one.length > 4))
            expect(new RegExp(`${RegExp.escape(word)}(?![\\w-])`).test(text), `${sidecar}: ${word}`).toBe(false); // /root, and no /rootless
        }
      }
      await Promise.all(images.map(asPublished));
      const { added } = await publish({
        destination: localDestination(tree),
        keys,
        baseUrl: 'https://extensions.example.org',
        unsigned: true,
        origins: ['upstream', 'go', 'cargo', 'debian', 'source'],
        paths: [out],
      });
      return expect(added.filter((path) => path.startsWith(`${name}/`))).toHaveLength(images.length);
    } finally {
      for (const made of [out, tree]) await rm(made, { recursive: true, force: true });
    }
  },
);
