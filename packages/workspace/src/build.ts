import { join, relative, resolve } from 'node:path';
import {
  asUserError,
  buildExtension,
  openStore,
  openTools,
  type Arch,
  type BuildContext,
  type Image,
  type OriginChoice,
  type Profile,
  type Report,
  type SignKeys,
  type Target,
  type UserError,
} from '@flatcar/core/engine';
import { assertCommit, buildContext } from './build-context.ts';
import { checkOutput, replaceDist } from './dist.ts';
import { assertPackaged } from './packaging-check.ts';
import { chooseExtensions, type Chosen } from './select.ts';

/** What a build makes, and how. */
export interface BuildSettings {
  /** `name` or `name@version`; the extension of the current folder by default. */
  readonly names: readonly string[];
  readonly targets: readonly Target[];
  readonly arches: readonly Arch[];
  readonly profile: Profile;
  readonly origin: OriginChoice;
  /** Images go to `<out>/<extension>/<target>/`, by default to the extension's dist/, which is replaced as a whole. */
  readonly out?: string;
  /** Another pins.json. */
  readonly pins?: string;
  /** Components to build; all by default. */
  readonly only?: readonly string[];
  readonly payloadsOnly?: boolean;
  readonly noSandbox?: boolean;
  readonly mirror?: string;
  readonly sign?: SignKeys;
}

/** A build that is ready to start. */
export interface PreparedBuild {
  readonly settings: BuildSettings;
  readonly chosen: readonly Chosen[];
  /** The checkout and the builder for build records. */
  readonly context: BuildContext;
}

/** The images of all extensions that could be built, and why the others could not. */
export interface BuildRun {
  readonly images: readonly Image[];
  readonly failures: readonly UserError[];
}

/** The folder for the images of an extension. */
const outputOf = ({ loaded }: Chosen, { out }: BuildSettings): string =>
  out === undefined ? join(loaded.dir, 'dist') : resolve(out, loaded.extension.name);

/** The folder for the payloads of each extension. */
export const payloadFolders = ({ chosen, settings }: PreparedBuild): string[] =>
  chosen.map((one) => join(outputOf(one, settings), 'payload'));

/** Checks everything that a build needs before it writes anything. Throws a UserError. */
export async function prepareBuild(settings: BuildSettings): Promise<PreparedBuild> {
  const { names, pins, out, profile } = settings;
  const chosen = await chooseExtensions(names, pins);
  for (const { loaded } of chosen) await checkOutput(out === undefined ? loaded.dir : resolve(out, loaded.extension.name));
  if (profile === 'publish') await assertPackaged(chosen);
  const context = await buildContext();
  await assertCommit(context, profile);
  return { settings, chosen, context };
}

/** Builds one extension for all architectures and targets into a folder. */
async function buildInto(
  folder: string,
  { loaded, version }: Chosen,
  { settings, context }: PreparedBuild,
  report: Report,
  signal: AbortSignal,
): Promise<Image[]> {
  const store = openStore();
  const tools = openTools(store, report);
  const images: Image[] = [];
  const { names: _, arches, pins: __, ...options } = settings;
  for (const arch of arches) {
    const built = await buildExtension(loaded, { ...options, version, arch, out: folder, store, tools, report, signal, built: context });
    images.push(...built.images);
  }
  return images;
}

/** Builds one extension; without `--out` its dist/ is replaced once everything is built. */
async function buildOne(chosen: Chosen, prepared: PreparedBuild, report: Report, signal: AbortSignal): Promise<Image[]> {
  const folder = outputOf(chosen, prepared.settings);
  if (prepared.settings.out !== undefined) return buildInto(folder, chosen, prepared, report, signal);
  return replaceDist(chosen.loaded.dir, async (temporary) => {
    const images = await buildInto(temporary, chosen, prepared, report, signal);
    return images.map((image) => ({ ...image, file: join(folder, relative(temporary, image.file)) }));
  });
}

/** Builds all extensions. One that fails does not stop the others; the error of a single one is thrown. */
export async function build(prepared: PreparedBuild, report: Report, signal: AbortSignal): Promise<BuildRun> {
  const images: Image[] = [];
  const failures: UserError[] = [];
  for (const one of prepared.chosen) {
    try {
      images.push(...(await buildOne(one, prepared, report, signal)));
    } catch (error) {
      const known = asUserError(error);
      if (signal.aborted || known === undefined || prepared.chosen.length === 1) throw error;
      failures.push(known);
    }
  }
  return { images, failures };
}
