import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { pinnedVersions, wasBuilt } from '../src/extension/images.ts';

const yq = resolve(import.meta.dirname, '../../../extensions/yq');
let dir: string | undefined;
afterEach(async () => {
  vi.unstubAllEnvs();
  if (dir !== undefined) await rm(dir, { recursive: true, force: true });
});

test('an image counts as built by its version, with or without revision and target, and not by what its version begins with', async () => {
  const { version = '' } = await pinnedVersions(yq, {});
  for (const [file, expected] of [
    [`portable/yq.portable_${version}1_x86-64.raw`, false],
    [`portable/yq.portable_${version}.1_x86-64.raw`, false],
    [`portable/yq.portable_${version}_arm64.raw`, false],
    [`portable/yq.portable_${version}_x86-64.raw`, true],
    [`portable/yq.portable_${version}-2_x86-64.raw`, true],
    [`4593.2.5/yq.4593.2.5_${version}_x86-64.raw`, true],
  ] as const) {
    dir = await mkdtemp(join(tmpdir(), 'was-built-'));
    vi.stubEnv('FLATCAR_EXT_CACHE', dir);
    const image = join(dir, 'test-images/yq', file);
    await mkdir(join(image, '..'), { recursive: true });
    await writeFile(image, '');
    expect(await wasBuilt(yq, 'x86-64'), file).toBe(expected);
    await rm(dir, { recursive: true });
  }
});
