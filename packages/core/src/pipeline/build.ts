import { dirname, join } from 'node:path';
import { allComponents } from '../definition/components.ts';
import type { LoadedExtension, PinnedComponent } from '../definition/types.ts';
import { bindMany, formatOf, unpackImage, type SignKeys } from '../image/bind.ts';
import { readTree } from '../image/tree.ts';
import { checkCompatibility, hostUsers } from '../lint/compatibility.ts';
import { placeOf } from '../lint/locate.ts';
import { waiveFindings } from '../lint/waivers.ts';
import type { Arch } from '../model/arch.ts';
import type { Finding } from '../model/finding.ts';
import type { Image } from '../model/image.ts';
import { imageBase, imageVersion, targetName } from '../model/names.ts';
import type { OriginChoice, OriginKind, Payload, Profile } from '../model/payload.ts';
import type { Target } from '../model/target.ts';
import { resolveComponents } from '../origins/resolve.ts';
import { writeSidecars } from '../sidecars/index.ts';
import type { BuildContext } from '../sidecars/provenance.ts';
import type { Store } from '../store/store.ts';
import { openSandbox, withoutSandbox } from '../tools/sandbox.ts';
import { installedRecords } from '../tools/tool-records.ts';
import { openToolchains } from '../tools/toolchains.ts';
import type { Tools } from '../tools/tools.ts';
import { UsageError, UserError } from '../util/errors.ts';
import type { Report } from '../util/events.ts';
import { mkdirPublic } from '../util/files.ts';
import { timed } from '../util/steps.ts';
import { claimsOf } from './describe.ts';
import { reportFindings, type Locate } from './findings.ts';
import { exportPayload, packPayloads, type PackedPayload } from './payload.ts';

/** What binding takes besides a payload and its targets. */
export interface BindOptions {
  /** Folder that gets one folder per target. */
  readonly out: string;
  readonly store: Store;
  readonly tools: Tools;
  readonly report: Report;
  /** Keys that sign the roothash of disk images. */
  readonly sign?: SignKeys;
  /** What the build record reports about the checkout and the builder. */
  readonly built?: BuildContext;
  readonly signal?: AbortSignal;
}

/** One build: one extension version for one architecture, bound to any number of targets. `out` gets a folder `payload/` too. */
export interface BuildOptions extends BindOptions {
  /** Upstream version, as in pins.json. */
  readonly version: string;
  readonly arch: Arch;
  readonly targets: readonly Target[];
  readonly profile: Profile;
  /** How to choose the origin of each component, or the kind of each component's origin, in the order of a manifest's components. */
  readonly origin: OriginChoice | readonly OriginKind[];
  /** Names of components: the image contains only these and the files of this repository, and is not publishable. */
  readonly only?: readonly string[];
  /** True to make payloads only, and leave the images to bind. */
  readonly payloadsOnly?: boolean;
  /** Base URL through which all upstream URLs are fetched. */
  readonly mirror?: string;
  /** True to compile without a sandbox: the result is not publishable. */
  readonly noSandbox?: boolean;
}

/** What a build made. */
export interface BuildResult {
  /** One per format that the targets take. */
  readonly payloads: readonly Payload[];
  readonly images: readonly Image[];
}

/** The targets that an extension can be bound to. Throws a UserError when none is left. */
function possibleTargets({ extension: { name, releaseBound: isBound } }: LoadedExtension, targets: readonly Target[]): readonly Target[] {
  const possible = targets.filter((target) => !isBound || target !== 'portable');
  if (possible.length === 0)
    throw new UserError(`${name} needs the libraries of one Flatcar release and has no portable image`, { next: 'specify a release' });
  return possible;
}

/** The components that `only` names, and the files of this repository. Reports the components that are left out. */
function pickComponents(
  all: readonly PinnedComponent[],
  { only, report }: Pick<BuildOptions, 'only' | 'report'>,
  name: string,
): readonly PinnedComponent[] {
  if (only === undefined) return all;
  const upstream = all
    .filter(({ component }) => component.origins.some(({ kind }) => kind !== 'files'))
    .map(({ component }) => component.name);
  const unknown = only.find((wanted) => !upstream.includes(wanted));
  const next = `its components: ${upstream.join(', ')}`;
  if (only.length === 0) throw new UsageError(`no component of ${name} is specified`, { next });
  if (unknown !== undefined) throw new UsageError(`${name} has no component '${unknown}'`, { next });
  const missing = upstream.filter((one) => !only.includes(one));
  report({ type: 'notice', text: `${name} WITHOUT ${missing.join(', ')}, as specified by --only. This image is not for publishing.` });
  return all.filter(({ component }) => !missing.includes(component.name));
}

/** Makes the payloads of one extension version for one architecture: resolve → stage → lint → pack. */
async function makePayloads(
  loaded: LoadedExtension,
  components: readonly PinnedComponent[],
  revision: number,
  options: BuildOptions & { readonly targets: readonly Target[] },
): Promise<PackedPayload[]> {
  const { store, tools, report, arch, profile, mirror, signal } = options;
  const noSandbox = options.noSandbox === true;
  const toolchains = openToolchains(store, report);
  const records = installedRecords(tools, toolchains);
  const sandbox = noSandbox ? withoutSandbox() : openSandbox(store, tools);
  const context = { arch, store, tools, toolchains, sandbox, records, report, mirror, signal };
  const resolved = await resolveComponents(components, context, options.origin);
  const described = resolved.map((one) => ({ ...one, description: one.result }));
  const how = { records, revision, only: options.only !== undefined, noSandbox };
  const claims = await Promise.all(
    [...new Set(options.targets.map(formatOf))].map(async (format) => ({
      format,
      claims: await claimsOf(loaded, { version: options.version, arch, format, profile }, described, how),
    })),
  );
  return packPayloads({ loaded, version: imageVersion(options.version, revision), arch, profile, resolved, store, tools, report }, claims);
}

/** The requirements of a payload that a target does not meet and that are not waived. Of a portable image each file is named: the record has no paths. */
async function unmetRequirements(
  payload: Payload,
  file: string,
  target: Target,
  { tools, store }: Pick<BindOptions, 'tools' | 'store'>,
): Promise<Finding[]> {
  const findings = checkCompatibility(payload, target);
  if (!findings.some(({ rule }) => rule === 'portable-needs-host')) return waiveFindings(findings, payload.waived).left;
  const users = await store.withTemp(async (temp) => {
    const dir = join(temp, 'content');
    await unpackImage(tools, file, payload.format, payload.arch, dir);
    return hostUsers(await readTree(dir, new Map()));
  });
  return waiveFindings(users.length === 0 ? findings : users, payload.waived).left;
}

/**
 * Binds a payload to targets of its format and writes each image with its sidecars into `out/<target>/`. Runs no code of the extension.
 * `locate` gives the file and line of the checkout for a finding.
 */
export async function bindTargets(
  payload: Payload,
  file: string,
  targets: readonly Target[],
  options: BindOptions,
  locate?: Locate,
): Promise<Image[]> {
  const { out, tools, store, report, sign, built = {}, signal } = options;
  const { extension, version, arch } = payload;
  const jobs = targets.map((target) => ({
    target,
    out: join(out, targetName(target), `${imageBase(extension, version, targetName(target), arch)}.raw`),
  }));
  for (const { target } of jobs) {
    signal?.throwIfAborted();
    const findings = await unmetRequirements(payload, file, target, options);
    await reportFindings(findings, `${extension} ${version} on ${targetName(target)}`, report, locate);
  }
  await Promise.all(jobs.map(({ out: path }) => mkdirPublic(dirname(path), dirname(path))));
  report({ type: 'step', text: `binding ${extension} ${version} ${arch} to ${targets.map(targetName).join(', ')}` });
  const images = await bindMany(payload, file, jobs, { tools, store, sign });
  await timed('sidecars', async () => {
    for (const image of images) await writeSidecars(image, payload, built, store);
  });
  return images;
}

/** Builds one extension version for one architecture: a payload per format, then an image per target. */
export async function buildExtension(loaded: LoadedExtension, options: BuildOptions): Promise<BuildResult> {
  const targets = possibleTargets(loaded, options.targets);
  const { pin, components, own } = await allComponents(loaded, options.version);
  const chosen = [...pickComponents(components, options, loaded.extension.name), ...own];
  const packed = await makePayloads(loaded, chosen, pin.revision, { ...options, targets });
  const images: Image[] = [];
  for (const { payload, file } of packed) {
    const owners = new Map(payload.tree.entries.map(({ path, component }) => [path, component]));
    const locate: Locate = (finding) => placeOf(finding, loaded.dir, [...components, ...own], owners);
    const taking = targets.filter((target) => formatOf(target) === payload.format);
    const bound = options.payloadsOnly === true ? [] : await bindTargets(payload, file, taking, options, locate);
    images.push(...bound);
    await exportPayload({ payload, file }, options.out, bound);
  }
  return { payloads: packed.map(({ payload }) => payload), images };
}
