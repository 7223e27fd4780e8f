import type { KeyObject } from 'node:crypto';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { compareVersions, makePublic, UserError } from '@flatcar/core/engine';
import { checkUpdate } from './check.ts';
import { writePayload } from '../formats/crau.ts';
import { officialBase, officialFolder } from '../tree/layout.ts';
import type { UpdatePackage } from '../tree/schema.ts';
import type { Staged, StagedImage } from './stage.ts';

/** One image in the official layout: its files, and their entry in the list of packages. */
export interface StagedOfficial {
  readonly files: readonly Staged[];
  readonly entry: UpdatePackage;
}

/**
 * The images that represent their extension in the official layout: for each release and architecture without an image, the newest of those
 * that are published now. The name has no version and never changes its bytes: like Flatcar's own images, it stays for the release's life.
 */
export function officialImages(staged: readonly StagedImage[], packages: readonly UpdatePackage[]): StagedImage[] {
  const has = new Set(packages.map(({ extension, release, architecture }) => `${extension} ${release} ${architecture}`));
  const chosen = new Map<string, StagedImage>();
  for (const one of staged) {
    const { name, target, architecture, version } = one.input.manifest;
    const slot = `${name} ${target} ${architecture}`;
    if (target === 'portable' || has.has(slot)) continue;
    const before = chosen.get(slot);
    if (before === undefined || compareVersions(version, before.input.manifest.version) > 0) chosen.set(slot, one);
  }
  return [...chosen.values()];
}

/** Stages the update payload and the image for the official layout. */
export async function stageOfficial(staging: string, { input, image }: StagedImage, keys: readonly KeyObject[]): Promise<StagedOfficial> {
  const { name, version, target: release, architecture } = input.manifest;
  const base = `${officialFolder(release, architecture)}/${officialBase(name)}`;
  const temporary = join(staging, `${image.sha256}.gz.tmp`);
  const digests = await writePayload({ file: image.from, sha256: image.sha256 }, temporary, keys);
  const from = join(staging, digests.sha256);
  await rename(temporary, from);
  await makePublic(from);
  const checked = await checkUpdate({ file: from, where: input.file }, image.sha256, keys);
  if (checked !== digests.sha256) throw new UserError('the update payload changed while it was staged', { where: from });
  const update: Staged = { from, path: `${base}.gz`, sha256: digests.sha256, size: digests.size };
  const raw: Staged = { ...image, path: `${base}.raw` };
  return {
    files: [raw, update],
    entry: {
      name: `${officialBase(name)}.gz`,
      extension: name,
      version,
      release,
      architecture,
      path: update.path,
      size: update.size,
      sha1: digests.sha1,
      sha256: update.sha256,
      image: { path: raw.path, size: raw.size, sha256: raw.sha256 },
    },
  };
}
