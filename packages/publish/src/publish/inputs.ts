import { stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { readManifest, readPayload, sidecarPaths, UserError, UserErrors, walk, type Manifest, type Payload } from '@flatcar/core/engine';
import { imagePath, RESERVED } from '../tree/layout.ts';
import type { DeclaredOrigins } from '../tree/origins.ts';

/** An image to publish, with its sidecars. */
export interface Input {
  /** Path of the .raw. */
  readonly file: string;
  readonly manifest: Manifest;
  readonly sidecars: { readonly manifest: string; readonly sbom: string; readonly provenance: string };
}

/** Content of the given files and folders. */
export interface Inputs {
  readonly images: readonly Input[];
  /** Payload records by key. */
  readonly payloads: ReadonlyMap<string, Payload>;
}

async function readInput(file: string): Promise<Input> {
  const sidecars = sidecarPaths(file);
  const manifest = await readManifest(file);
  const name = basename(imagePath(manifest));
  if (manifest.file !== name)
    throw new UserError(`invalid manifest: file is '${manifest.file}', and its other fields give '${name}'`, {
      where: sidecars.manifest,
      next: 'build the image again',
    });
  if (basename(file) !== name)
    throw new UserError(`the manifest is for '${name}'`, { where: sidecars.manifest, next: 'rename the image to that name' });
  return { file, manifest, sidecars };
}

/** Images (*.raw) and payload records (*.payload.json) in the given files and folders. */
export async function readInputs(paths: readonly string[]): Promise<Inputs> {
  const files: string[] = [];
  for (const path of paths) {
    const info = await stat(path).catch((cause: unknown) => {
      throw new UserError('no such image or folder', { where: path, cause });
    });
    // Links are ignored: they could lead outside of the folder.
    if (info.isDirectory()) files.push(...(await walk(resolve(path))).filter(({ type }) => type === 'file').map(({ full }) => full));
    else files.push(resolve(path));
  }
  const unique = [...new Set(files)].toSorted();
  const images = await Promise.all(unique.filter((file) => file.endsWith('.raw')).map(readInput));
  const payloads = new Map<string, Payload>();
  for (const file of unique.filter((one) => one.endsWith('.payload.json'))) {
    const payload = await readPayload(file);
    payloads.set(payload.key, payload);
  }
  return { images, payloads };
}

/** Why an image cannot be published; empty if it can. */
function publishErrors({ manifest }: Input, origins: DeclaredOrigins): string[] {
  const { name, profile, publishBlockers, components } = manifest;
  // The declared origins of a tree decide which images it accepts.
  const blocking = publishBlockers.filter(({ code }) => code !== 'fallback' || origins === 'preferred');
  const reasons = blocking.map(({ what }) => what);
  if (RESERVED.has(name)) reasons.push(`the name '${name}' is a folder of the tree itself`);
  if (profile !== 'publish') reasons.push(`it was packed with the profile '${profile}' instead of 'publish'`);
  if (origins !== 'preferred') {
    const other = components.filter(({ origin }) => origin !== 'files' && !origins.includes(origin));
    if (other.length > 0)
      reasons.push(
        `${other.map((one) => `${one.name} comes from '${one.origin}'`).join(', ')}, and this tree declares ${origins.join(', ')}`,
      );
  }
  return reasons;
}

/** Refuses images that must not be published, and reports all of them. */
export function checkInputs({ images }: Inputs, origins: DeclaredOrigins): void {
  const errors = images.flatMap((input) =>
    publishErrors(input, origins).map(
      (reason) =>
        new UserError(`cannot be published: ${reason}`, {
          where: input.file,
          next: input.manifest.publishBlockers.some(({ code }) => code === 'local-only')
            ? 'leave it out: copy it to your own nodes instead'
            : 'build it for publishing: flatcar-ext build NAME --profile publish',
        }),
    ),
  );
  const [first] = errors;
  if (first === undefined) return;
  throw errors.length === 1 ? first : new UserErrors(`${errors.length} problems; nothing was published`, errors);
}

/** Refuses an image that requires an extension that is neither published (names in `published`) nor among the images. */
export function checkRequires({ images }: Pick<Inputs, 'images'>, published: Iterable<string>): void {
  const available = new Set([...published, ...images.map(({ manifest }) => manifest.name)]);
  const missing = new Map(
    images.flatMap(({ file, manifest: { name, requires } }) =>
      requires.filter((one) => !available.has(one)).map((one) => [`${name} ${one}`, { file, name, one }] as const),
    ),
  );
  const errors = [...missing.values()].map(
    ({ file, name, one }) =>
      new UserError(`${name} requires ${one}, which is not published`, {
        where: file,
        next: `publish ${one} first, or both together`,
      }),
  );
  const [first] = errors;
  if (first !== undefined) throw errors.length === 1 ? first : new UserErrors(`${errors.length} required extensions are missing`, errors);
}
