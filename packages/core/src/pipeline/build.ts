import { access, readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import * as v from 'valibot';
import { pathsBeside } from '../definition/beside.ts';
import { bindMany, checkContent, formatOf, unpackImage, type SignKeys } from '../image/bind.ts';
import { embeddedModules } from '../inspect/go-buildinfo.ts';
import { packErofs } from '../image/erofs.ts';
import { UserError, UserErrors, UsageError } from '../util/errors.ts';
import { claimsOf, packedKey } from './describe.ts';
import { allComponents } from '../definition/components.ts';
import type { LoadedExtension, PinnedComponent } from '../definition/types.ts';
import { lintTree } from '../lint/lint.ts';
import { placeOf } from '../lint/locate.ts';
import { imageBase, imageVersion, payloadBase, targetName } from '../model/names.ts';
import { measureNeeds } from '../inspect/host-requirements.ts';
import { fits, hostUsers } from '../lint/compatibility.ts';
import { stageReleaseFile } from '../image/release-file.ts';
import { parseJson } from '../util/json.ts';
import { PayloadSchema } from '../model/payload-record.ts';
import { resolveComponents, type ResolvedComponent } from '../origins/resolve.ts';
import { openSandbox, withoutSandbox } from '../tools/sandbox.ts';
import { writeSidecars } from '../sidecars/index.ts';
import type { BuildContext } from '../sidecars/provenance.ts';
import { packSquashfs } from '../image/squashfs.ts';
import { stage } from '../image/stage.ts';
import { copyPublic, hashFile, mkdirPublic, PUBLIC_FILE, replaceFile, writeAtomic } from '../util/files.ts';
import type { Store } from '../store/store.ts';
import { installedRecords } from '../tools/tool-records.ts';
import { openToolchains } from '../tools/toolchains.ts';
import type { Tools } from '../tools/tools.ts';
import { normalise, readTree } from '../image/tree.ts';
import type { Arch } from '../model/arch.ts';
import type { Finding } from '../model/finding.ts';
import type { Image } from '../model/image.ts';
import type { Needs, EmbeddedModule, OriginChoice, OriginKind, Payload, Profile, Tree } from '../model/payload.ts';
import type { Format, Target } from '../model/target.ts';
import type { Report } from '../util/events.ts';
import { writeStartDropins } from '../image/start-dropins.ts';
import { waiveFindings } from '../lint/waivers.ts';

/** One build: one extension version for one architecture, bound to any number of targets. */
export interface BuildOptions {
  /** Upstream version, as pins.json has it. */
  readonly version: string;
  readonly arch: Arch;
  readonly targets: readonly Target[];
  readonly profile: Profile;
  /** How each component's origin is chosen, or the kind of each one's origin, in the order of a manifest's components. */
  readonly origin: OriginChoice | readonly OriginKind[];
  /** Names of components: the image has no others, besides the files of this repository, and is not publishable. */
  readonly only?: readonly string[];
  /** True to make payloads only, and leave the images of the targets to bind. */
  readonly payloadsOnly?: boolean;
  /** Folder that gets `payload/` and one folder per target. */
  readonly out: string;
  readonly store: Store;
  readonly tools: Tools;
  readonly report: Report;
  readonly mirror?: string;
  readonly signal?: AbortSignal;
  /** True to compile without a sandbox: what is compiled so is not publishable. */
  readonly noSandbox?: boolean;
  readonly sign?: SignKeys;
  /** What the build record says of the checkout and of who builds. */
  readonly built?: BuildContext;
}

/** What a build made. */
export interface BuildResult {
  /** One per format that the targets asked for. */
  readonly payloads: readonly Payload[];
  readonly images: readonly Image[];
}

/** Folders of the extensions in a repository, sorted by name. */
export async function findExtensions(repo: string): Promise<string[]> {
  const root = join(repo, 'extensions');
  const names = await readdir(root).catch((cause: unknown) => {
    throw new UserError('no extensions here', { where: root, cause, next: 'run this in the repository' });
  });
  const dirs = await Promise.all(
    names.toSorted().map(async (name) => {
      const dir = join(root, name);
      return access(join(dir, 'extension.ts')).then(
        () => [dir],
        () => [],
      );
    }),
  );
  return dirs.flat();
}

/** Throws all errors together and reports the warnings, each with its fix and, by `place`, file and line to mend. */
async function judge(
  findings: readonly Finding[],
  what: string,
  report: Report,
  place?: (finding: Finding) => Promise<string>,
): Promise<void> {
  const placed = await Promise.all(
    findings.map(async (finding) => {
      const { path, what: text } = finding;
      // A place that cannot be found must not hide what was found.
      const where = await place?.(finding).catch(() => undefined);
      // Both are told: the path in the image, and the place in the repository.
      const inImage = path === undefined || where === undefined || where.includes(path) ? '' : `${path}: `;
      return { ...finding, text: `${inImage}${text}`, where: where ?? path };
    }),
  );
  for (const { level, rule, text, where, fix } of placed) {
    if (level === 'warning')
      report({ type: 'notice', text: `${what}: ${where === undefined ? '' : `${where}: `}${text} [${rule}]; ${fix}` });
  }
  const errors = placed.filter(({ level }) => level === 'error');
  if (errors.length === 0) return;
  throw new UserErrors(
    `${what}: lint found ${errors.length} error${errors.length === 1 ? '' : 's'}`,
    errors.map(({ rule, text, where, fix }) => new UserError(`${text} [${rule}]`, { where, next: fix })),
  );
}

/** The components that `only` names, and those that are files of this repository; what is left out is told. */
function pickComponents(
  all: readonly PinnedComponent[],
  { only, report }: Pick<BuildOptions, 'only' | 'report'>,
  { name }: LoadedExtension['extension'],
): readonly PinnedComponent[] {
  if (only === undefined) return all;
  const upstream = all
    .filter(({ component }) => component.origins.some(({ kind }) => kind !== 'files'))
    .map(({ component }) => component.name);
  const unknown = only.find((wanted) => !upstream.includes(wanted));
  if (unknown !== undefined || only.length === 0)
    throw new UsageError(`${name} has no component '${unknown ?? ''}'`, { next: `its components: ${upstream.join(', ')}` });
  const missing = upstream.filter((one) => !only.includes(one));
  report({ type: 'notice', text: `${name} WITHOUT ${missing.join(', ')}, as --only asks. This image is not for publishing.` });
  return all.filter(({ component }) => !missing.includes(component.name));
}

interface Staged {
  readonly tree: Tree;
  readonly reload: boolean;
  readonly needs: Needs;
  readonly modules: readonly EmbeddedModule[];
}

/** Stages the components' files, lints the tree and measures what it needs. */
async function stageTree(
  loaded: LoadedExtension,
  version: string,
  resolved: readonly ResolvedComponent[],
  dir: string,
  options: BuildOptions,
): Promise<Staged> {
  const { arch, report } = options;
  const { extension } = loaded;
  report({ type: 'step', text: `staging ${extension.name} ${version} for ${arch}` });
  const owners = await stage(
    resolved.map(({ component, result }) => ({ component: component.name, dir: result.dir, places: component.places })),
    dir,
  );
  await writeStartDropins(dir, extension);
  // systemd must read units again after a merge that brings any (EXTENSION_RELOAD_MANAGER=).
  const reload = extension.start.length > 0 || [...owners.keys()].some((path) => /^(?:usr\/lib|etc)\/systemd\//.test(path));
  await stageReleaseFile(dir, { name: extension.name, kind: extension.kind, version, arch, target: 'portable', reload });
  await normalise(dir);
  const tree = await readTree(dir, owners);
  const omissions = resolved.flatMap(({ result }) => result.omissions ?? []);
  await judge(
    await lintTree(tree, {
      name: extension.name,
      kind: extension.kind,
      arch,
      definition: extension,
      omissions,
      beside: await pathsBeside(dirname(loaded.dir), extension.requires),
    }),
    `${extension.name} ${version} ${arch}`,
    report,
    (finding) => placeOf(finding, loaded.dir, resolved, owners),
  );
  const modules = modulesOf(tree, resolved, await embeddedModules(tree));
  return { tree, reload, needs: await measureNeeds(tree, arch), modules };
}

/** What the tree's programs say is in them, the packages that its files come from and the crates in its programs; each once. */
function modulesOf(tree: Tree, resolved: readonly ResolvedComponent[], embedded: readonly EmbeddedModule[]): EmbeddedModule[] {
  const there = new Set(tree.entries.map(({ path }) => path));
  const packages = resolved.flatMap(({ component, result }) => {
    const programs = tree.entries
      .filter((entry) => entry.component === component.name && entry.type === 'file' && (entry.mode & 0o100) !== 0)
      .map(({ path }) => path);
    return (result.packages ?? []).map((one) => ({
      ...one,
      paths: one.paths === 'programs' ? programs : one.paths.filter((path) => there.has(path)),
    }));
  });
  const found = new Map<string, EmbeddedModule>();
  for (const one of [...packages, ...embedded].filter(({ paths }) => paths.length > 0)) {
    const key = `${one.type} ${one.name}@${one.version}`;
    found.set(key, { ...one, paths: [...new Set([...(found.get(key)?.paths ?? []), ...one.paths])] });
  }
  return [...found.entries()].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, module]) => module);
}

/**
 * Makes the payloads of one extension version for one architecture: resolve → stage → lint → pack.
 * Everything is decided by the key; what the store has is not made again.
 */
async function makePayloads(
  loaded: LoadedExtension,
  formats: readonly Format[],
  options: BuildOptions,
): Promise<{ payload: Payload; file: string }[]> {
  const { extension } = loaded;
  const { store, tools, report, arch, profile } = options;
  const { pin, components: all, own } = await allComponents(loaded, options.version);
  const components = pickComponents(all, options, extension);
  const version = imageVersion(options.version, pin.revision);
  const toolchains = openToolchains(store, report);
  const records = installedRecords(tools, toolchains);
  const sandbox = options.noSandbox === true ? withoutSandbox() : openSandbox(store, tools);
  const context = {
    arch,
    store,
    tools,
    toolchains,
    sandbox,
    records,
    report,
    ...(options.mirror === undefined ? {} : { mirror: options.mirror }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  };

  const resolved = await resolveComponents([...components, ...own], context, options.origin);
  const described = resolved.map((one) => ({ ...one, description: one.result }));

  return store.withTemp(async (temp) => {
    // Staged at most once, and only when a format is missing from the store.
    let staged: Promise<Staged> | undefined;
    const stagedTree = (): Promise<Staged> => (staged ??= stageTree(loaded, version, resolved, join(temp, 'tree'), options));

    const payloads: { payload: Payload; file: string }[] = [];
    for (const format of formats) {
      const request = { version: options.version, arch, format, profile };
      const how = { records, revision: pin.revision, only: options.only !== undefined, noSandbox: options.noSandbox === true };
      const claims = await claimsOf(loaded, request, described, how);
      const made = await store.result('payload', packedKey(loaded, claims.key), async (dir) => {
        const { tree, reload, needs, modules } = await stagedTree();
        report({ type: 'step', text: `packing ${extension.name} ${version} for ${arch} (${format}, ${profile})` });
        const file = join(dir, `payload.${format}`);
        const pack = format === 'squashfs' ? packSquashfs : packErofs;
        const { releaseFileOffset } = await pack(tools, tree, { name: extension.name, kind: extension.kind, profile }, file);
        await checkContent(tools, store, file, format, tree);
        const payload: Payload = {
          ...claims,
          file: basename(file),
          sha256: await hashFile(file),
          size: (await stat(file)).size,
          releaseFileOffset,
          reload,
          tree: { digest: tree.digest, entries: tree.entries },
          needs,
          modules,
        };
        await writeAtomic(join(dir, 'payload.json'), `${JSON.stringify(payload, undefined, 2)}\n`);
      });
      const where = join(made.dir, 'payload.json');
      const packed = parseJson(PackedSchema, await readFile(where, 'utf8'), {
        what: 'payload record',
        where,
        next: 'run flatcar-ext cache verify, and build again',
      });
      const payload: Payload = { ...packed, ...claims };
      payloads.push({ payload, file: join(made.dir, payload.file) });
    }
    return payloads;
  });
}

/** What the record of a packed payload is read for. Everything else in it is computed each time; that of an older record may lack fields. */
const PackedSchema = v.object(
  v.pick(PayloadSchema, ['file', 'sha256', 'size', 'releaseFileOffset', 'reload', 'tree', 'needs', 'modules']).entries,
);

/** Writes the payload's record where `flatcar-ext bind` finds it; a squashfs payload is the portable image itself. */
async function exportPayload(payload: Payload, file: string, out: string, images: readonly Image[]): Promise<void> {
  const dir = join(out, 'payload');
  await mkdirPublic(dir, dir);
  const base = payloadBase(payload.extension, payload.version, payload.arch);
  const portable = images.find(({ target, arch }) => target === 'portable' && arch === payload.arch && payload.format === 'squashfs');
  const target = portable?.file ?? join(dir, `${base}.${payload.format}`);
  if (portable === undefined) await replaceFile(target, (temporary) => copyPublic(file, temporary));
  await writeAtomic(
    join(dir, `${base}.${payload.format}.payload.json`),
    `${JSON.stringify({ ...payload, file: relative(dir, target) }, undefined, 2)}\n`,
    PUBLIC_FILE,
  );
}

/** What a target lacks of what a payload needs, without what is waived. For a portable image the files are looked for: the record has no paths. */
async function misfits(
  payload: Payload,
  file: string,
  target: Target,
  { tools, store }: Pick<BuildOptions, 'tools' | 'store'>,
): Promise<Finding[]> {
  const findings = fits(payload, target);
  if (!findings.some(({ rule }) => rule === 'portable-needs-host')) return waiveFindings(findings, payload.waived).left;
  const users = await store.withTemp(async (temp) => {
    const dir = join(temp, 'content');
    await unpackImage(tools, file, payload.format, payload.arch, dir);
    return hostUsers(await readTree(dir, new Map()));
  });
  return waiveFindings(users.length === 0 ? findings : users, payload.waived).left;
}

/**
 * Binds a payload to targets of its format and writes each image with its sidecars into `out/<target>/`.
 * Used by builds and by `flatcar-ext bind`; imports no extension code. `place` gives file and line of the checkout for a finding, where there is one.
 */
export async function bindTargets(
  payload: Payload,
  file: string,
  targets: readonly Target[],
  options: Omit<BuildOptions, 'version' | 'arch' | 'targets' | 'profile' | 'origin' | 'only' | 'mirror'>,
  place?: (finding: Finding) => Promise<string>,
): Promise<Image[]> {
  const { out, tools, store, report, sign, built = {} } = options;
  const jobs = targets.map((target) => ({
    target,
    out: join(out, targetName(target), `${imageBase(payload.extension, payload.version, targetName(target), payload.arch)}.raw`),
  }));
  for (const { target } of jobs)
    await judge(
      await misfits(payload, file, target, options),
      `${payload.extension} ${payload.version} on ${targetName(target)}`,
      report,
      place,
    );
  await Promise.all(jobs.map(({ out: path }) => mkdirPublic(dirname(path), dirname(path))));
  report({
    type: 'step',
    text: `binding ${payload.extension} ${payload.version} ${payload.arch} to ${targets.map(targetName).join(', ')}`,
  });
  const images = await bindMany(payload, file, jobs, { tools, store, ...(sign === undefined ? {} : { sign }) });
  for (const image of images) await writeSidecars(image, payload, built, store);
  return images;
}

/** Builds one extension version for one architecture: payloads, then an image per target. */
export async function buildExtension(loaded: LoadedExtension, options: BuildOptions): Promise<BuildResult> {
  const { name, bound: isBound } = loaded.extension;
  const targets = options.targets.filter((target) => !isBound || target !== 'portable');
  if (targets.length === 0)
    throw new UserError(`${name} runs on libraries of one Flatcar release: no portable image is made of it`, { next: 'name a release' });
  const formats = [...new Set(targets.map(formatOf))];
  const made = await makePayloads(loaded, formats, options);
  const { components, own } = await allComponents(loaded, options.version);
  const images: Image[] = [];
  for (const { payload, file } of made) {
    const owners = new Map(payload.tree.entries.map(({ path, component }) => [path, component]));
    const place = (finding: Finding): Promise<string> => placeOf(finding, loaded.dir, [...components, ...own], owners);
    options.signal?.throwIfAborted();
    const fitting = targets.filter((target) => formatOf(target) === payload.format);
    const bound = options.payloadsOnly === true ? [] : await bindTargets(payload, file, fitting, options, place);
    images.push(...bound);
    await exportPayload(payload, file, options.out, bound);
  }
  return { payloads: made.map(({ payload }) => payload), images };
}
