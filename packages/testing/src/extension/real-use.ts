import { glob, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ARCHES, hostArch } from '@flatcar/core/engine';
import { expect } from 'vitest';
import { extensionFolder, testFolder } from '../folders.ts';
import type { UseRoot, UseRootName } from '../hosts.ts';
import { afterAll, definitionsIn, describe, isCollected, mergeTest } from '../levels.ts';
import { withUseRoot } from '../merge/use-root.ts';
import type { RealUse, RealUses } from '../spec.ts';
import { checkSpec } from './check-spec.ts';
import { buildImages, imagesBeside } from './images.ts';

/** What `declaredUses` collects of an extension's test. */
interface Declared {
  readonly uses?: readonly RealUse[];
}

/** All roots, in the order of the README's columns. */
export const USE_ROOTS: readonly UseRootName[] = ['bare', 'debian', 'emulated'];

/** The architecture of a root's image. */
const archOf = (name: UseRootName): (typeof ARCHES)[number] =>
  (name === 'emulated' ? ARCHES.find((arch) => arch !== hostArch()) : undefined) ?? hostArch();

/**
 * Tests that an extension's programs do what users run them for, instead of only that they start. Each row runs on three roots: on a bare one (busybox,
 * bash and the host's certificates), on Debian with the os-release of Flatcar, and on a bare one with the image of the other architecture, by
 * qemu-user. The extensions that it requires are merged with it. The README of the extension has the same rows (`flatcar-ext docs`).
 */
export function testRealUse(folder: string, about: RealUses): void {
  checkSpec('testRealUse', folder, about);
  const dir = extensionFolder(folder);
  if (isCollected({ uses: about.uses })) return;
  for (const name of USE_ROOTS) {
    const rows = about.uses.filter(({ except }) => except?.[name] === undefined);
    if (rows.length === 0) continue;
    describe(`real use, ${name} root`, () => {
      const ready = Promise.withResolvers<{ root: UseRoot; env: Readonly<Record<string, string>> }>();
      const over = Promise.withResolvers<void>();
      ready.promise.catch(() => undefined); // each row reports it
      let running: Promise<void> | undefined;
      const start = async (): Promise<void> => {
        const [image] = await buildImages(dir, archOf(name), ['portable'], about);
        if (image === undefined) throw new Error('the build wrote no image');
        const beside = await imagesBeside(dir, archOf(name), 'portable');
        await withUseRoot({ name, image, beside, packages: about.packages }, async (root) => {
          const withServers = about.withServers ?? ((_, rows) => rows({}));
          await withServers(root, async (env) => {
            ready.resolve({ root, env });
            await over.promise;
          });
        });
      };
      afterAll(async () => {
        over.resolve();
        await running;
      });
      for (const { does, run, gives } of rows)
        mergeTest(
          does,
          async () => {
            running ??= start().catch((error: unknown) => ready.reject(error));
            const { root, env } = await ready.promise;
            const { said, exitCode } = await root.run(run, env);
            if (gives instanceof RegExp) expect(said).toMatch(gives);
            else expect(said).toBe(gives);
            expect(exitCode, said).toBe(0);
          },
          about,
        );
    });
  }
}

/** The real uses in the tests of an extension; no test runs. */
export async function declaredUses(dir: string): Promise<readonly RealUse[]> {
  const folder = testFolder(dir);
  const found: Declared[] = [];
  for (const file of (await Array.fromAsync(glob('*.test.ts', { cwd: folder }))).toSorted()) {
    const path = join(folder, file);
    if ((await readFile(path, 'utf8')).includes('testRealUse(')) found.push(...(await definitionsIn<Declared>(path)));
  }
  return found.flatMap(({ uses = [] }) => uses);
}
