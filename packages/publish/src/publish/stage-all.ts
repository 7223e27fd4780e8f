import { mapParallel, UserError } from '@flatcar/core/engine';
import type { Inputs } from './inputs.ts';
import { imagePath } from '../tree/layout.ts';
import { addImages, markWithdrawn } from './add-images.ts';
import { officialImages, stageOfficial, type StagedOfficial } from './official.ts';
import type { PublishOptions } from './options.ts';
import { expiredImages, expiredPackages, withoutImages } from './retire.ts';
import type { ExtensionIndex, UpdatePackage } from '../tree/schema.ts';
import { checkSigned, checkUpdateKey } from './signing-policy.ts';
import { stageImage, type StagedImage } from './stage.ts';
import type { Published } from '../tree/state.ts';
import { transferFiles } from '../tree/transfer.ts';

/** Everything that is to appear, staged and checked. */
export interface StagedPublish {
  readonly staged: readonly StagedImage[];
  readonly official: readonly StagedOfficial[];
  readonly extensions: ReadonlyMap<string, ExtensionIndex>;
  readonly packages: readonly UpdatePackage[];
  /** Paths of images and update payloads that leave, and of transfer files that have nothing to transfer any more. */
  readonly retired: readonly string[];
  readonly orphans: readonly string[];
}

/** Stages what is new of the inputs, checks it, and computes what the tree lists afterwards. Nothing appears yet. */
export async function stageAll(options: PublishOptions, published: Published, staging: string, inputs: Inputs): Promise<StagedPublish> {
  const { keys, report = () => undefined, signal, withdraw, retire } = options;
  const before = new Map<string, ExtensionIndex | undefined>();
  const names = new Set([
    ...inputs.images.map(({ manifest }) => manifest.name),
    ...(withdraw === undefined ? [] : [withdraw.name]),
    ...(retire === undefined ? [] : (published.index?.extensions ?? []).map(({ name }) => name)),
  ]);
  for (const name of names) before.set(name, await published.extension(name));

  // The same bytes under the same name are published already; everything else is new, or refused by addImages.
  const known = new Map<string, string>();
  for (const index of before.values())
    for (const { images } of index?.versions ?? []) for (const one of images) known.set(one.path, one.sha256);
  const fresh = inputs.images.filter(({ manifest }) => known.get(imagePath(manifest)) !== manifest.sha256);

  checkSigned(fresh, options);
  const records = new Map<string, string>();
  for (const index of before.values())
    for (const { payloads } of index?.versions ?? []) for (const { key, record } of Object.values(payloads)) records.set(key, record);

  report({ type: 'step', text: `staging ${fresh.length} images` });
  const staged = await mapParallel(
    fresh,
    async (input) => {
      signal?.throwIfAborted();
      const { payload } = input.manifest;
      const record = records.has(payload) ? undefined : inputs.payloads.get(payload);
      if (record === undefined && !records.has(payload))
        throw new UserError('the record of the payload that this image was bound from is not among what was given', {
          where: input.file,
          next: 'name the folder that build wrote too (it has payload/*.payload.json)',
        });
      const one = await stageImage(staging, input, record);
      return record === undefined ? { ...one, evidence: { ...one.evidence, record: records.get(payload) ?? '' } } : one;
    },
    4,
  );

  const extensions = new Map<string, ExtensionIndex>();
  for (const [name, index] of before) {
    const added = staged.filter(({ input }) => input.manifest.name === name);
    const after = added.length === 0 ? index : addImages(index, added);
    if (after !== undefined) extensions.set(name, after);
  }
  if (withdraw !== undefined) {
    const index = extensions.get(withdraw.name);
    if (index?.versions.some(({ version }) => version === withdraw.version) !== true)
      throw new UserError(`${withdraw.name} ${withdraw.version} is not published`, { where: options.destination.where });
    extensions.set(withdraw.name, markWithdrawn(index, withdraw.version, { reason: withdraw.reason, by: withdraw.by }));
  }

  const packagesBefore = await published.packages();
  const leaving = retire === undefined ? [] : expiredPackages(packagesBefore, retire);
  const retired = leaving.flatMap(({ path, image }) => [path, image.path]);
  const orphans: string[] = [];
  if (retire !== undefined)
    for (const [name, index] of extensions) {
      const paths = expiredImages(index, retire).map(({ path }) => path);
      const rest = withoutImages(index, new Set(paths));
      extensions.set(name, rest);
      retired.push(...paths);
      const [had, has] = [index, rest].map((one) => transferFiles(one, published.index?.baseUrl ?? ''));
      orphans.push(...[...(had?.keys() ?? [])].filter((path) => has?.has(path) === false));
    }
  const candidates = officialImages(staged, packagesBefore);
  const chosen = keys.update.length === 0 ? [] : candidates;
  checkUpdateKey(candidates.length, published.index === undefined, packagesBefore.length > 0, options);
  if (chosen.length > 0) report({ type: 'step', text: `making ${chosen.length} update payloads` });
  const official: StagedOfficial[] = [];
  for (const one of chosen) {
    signal?.throwIfAborted();
    official.push(await stageOfficial(staging, one, keys.update));
  }
  const packages = [...packagesBefore.filter((one) => !leaving.includes(one)), ...official.map(({ entry }) => entry)].toSorted((a, b) =>
    a.path < b.path ? -1 : 1,
  );
  return { staged, official, extensions, packages, retired, orphans };
}
