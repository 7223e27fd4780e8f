import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import * as v from 'valibot';
import { pathsBeside } from '../definition/beside.ts';
import type { LoadedExtension } from '../definition/types.ts';
import { checkContent } from '../image/bind.ts';
import { packErofs } from '../image/erofs.ts';
import { stageReleaseFile } from '../image/release-file.ts';
import { packSquashfs } from '../image/squashfs.ts';
import { stage } from '../image/stage.ts';
import { writeStartDropins } from '../image/start-dropins.ts';
import { normalise, readTree } from '../image/tree.ts';
import { embeddedModules } from '../inspect/go-buildinfo.ts';
import { measureNeeds } from '../inspect/host-requirements.ts';
import { lintTree } from '../lint/lint.ts';
import { placeOf } from '../lint/locate.ts';
import type { Arch } from '../model/arch.ts';
import type { Image } from '../model/image.ts';
import { payloadBase } from '../model/names.ts';
import { PayloadSchema } from '../model/payload-record.ts';
import type { EmbeddedModule, HostRequirements, Payload, Profile, Tree } from '../model/payload.ts';
import type { Format } from '../model/target.ts';
import type { ResolvedComponent } from '../origins/resolve.ts';
import type { Store } from '../store/store.ts';
import type { Tools } from '../tools/tools.ts';
import type { Report } from '../util/events.ts';
import { copyPublic, hashFile, mkdirPublic, PUBLIC_FILE, replaceFile, writeAtomic } from '../util/files.ts';
import { parseJson } from '../util/json.ts';
import { packedKey, type PayloadClaims } from './describe.ts';
import { reportFindings } from './findings.ts';

/** A payload's record and its file. */
export interface PackedPayload {
  readonly payload: Payload;
  readonly file: string;
}

/** What a payload is staged and packed from. */
export interface PayloadInput {
  readonly loaded: LoadedExtension;
  /** Image version, with its revision. */
  readonly version: string;
  readonly arch: Arch;
  readonly profile: Profile;
  readonly resolved: readonly ResolvedComponent[];
  readonly store: Store;
  readonly tools: Tools;
  readonly report: Report;
}

/** A staged tree, linted and measured. */
export interface StagedTree {
  readonly tree: Tree;
  /** True when systemd must read units again after a merge (EXTENSION_RELOAD_MANAGER=). */
  readonly reload: boolean;
  readonly needs: HostRequirements;
  readonly modules: readonly EmbeddedModule[];
}

/** Copies the components' files into a folder, and adds start drop-ins and the release file. */
async function stageFiles(
  { loaded, version, arch, resolved }: PayloadInput,
  dir: string,
): Promise<{ tree: Tree; reload: boolean; owners: ReadonlyMap<string, string> }> {
  const { extension } = loaded;
  const owners = await stage(
    resolved.map(({ component, result }) => ({ component: component.name, dir: result.dir, install: component.install })),
    dir,
  );
  await writeStartDropins(dir, extension);
  const reload = extension.start.length > 0 || [...owners.keys()].some((path) => /^(?:usr\/lib|etc)\/systemd\//.test(path));
  await stageReleaseFile(dir, { name: extension.name, kind: extension.kind, version, arch, target: 'portable', reload });
  await normalise(dir);
  return { tree: await readTree(dir, owners), reload, owners };
}

/** Stages the components' files, lints the tree and measures what it needs. Throws a UserErrors with every lint error. */
export async function stageTree(input: PayloadInput, dir: string): Promise<StagedTree> {
  const { loaded, version, arch, resolved, report } = input;
  const { extension } = loaded;
  report({ type: 'step', text: `staging ${extension.name} ${version} for ${arch}` });
  const { tree, reload, owners } = await stageFiles(input, dir);
  const findings = await lintTree(tree, {
    name: extension.name,
    kind: extension.kind,
    arch,
    definition: extension,
    omissions: resolved.flatMap(({ result }) => result.omissions ?? []),
    beside: await pathsBeside(dirname(loaded.dir), extension.requires),
  });
  await reportFindings(findings, `${extension.name} ${version} ${arch}`, report, (finding) =>
    placeOf(finding, loaded.dir, resolved, owners),
  );
  const modules = modulesOf(tree, resolved, await embeddedModules(tree));
  return { tree, reload, needs: await measureNeeds(tree, arch), modules };
}

/** The modules in the tree's programs, the packages that its files come from and the crates in its programs; each once, sorted. */
function modulesOf(tree: Tree, resolved: readonly ResolvedComponent[], embedded: readonly EmbeddedModule[]): EmbeddedModule[] {
  const paths = new Set(tree.entries.map(({ path }) => path));
  const packages = resolved.flatMap(({ component, result }) => {
    const programs = tree.entries
      .filter((entry) => entry.component === component.name && entry.type === 'file' && (entry.mode & 0o100) !== 0)
      .map(({ path }) => path);
    return (result.packages ?? []).map((one) => ({
      ...one,
      paths: one.paths === 'programs' ? programs : one.paths.filter((path) => paths.has(path)),
    }));
  });
  const found = new Map<string, EmbeddedModule>();
  for (const one of [...packages, ...embedded].filter((module) => module.paths.length > 0)) {
    const key = `${one.type} ${one.name}@${one.version}`;
    found.set(key, { ...one, paths: [...new Set([...(found.get(key)?.paths ?? []), ...one.paths])] });
  }
  return [...found.entries()].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, module]) => module);
}

/** The fields of a record that the store keeps. All others are computed each time: an older record may lack them. */
const PackedSchema = v.object(
  v.pick(PayloadSchema, ['file', 'sha256', 'size', 'releaseFileOffset', 'reload', 'tree', 'needs', 'modules']).entries,
);

/** Packs a staged tree in one format into a folder, reads the file back, and writes the payload's record beside it. */
async function packTree(input: PayloadInput, claims: PayloadClaims, format: Format, staged: StagedTree, dir: string): Promise<void> {
  const { loaded, version, arch, profile, store, tools, report } = input;
  const { name, kind } = loaded.extension;
  const { tree, ...measured } = staged;
  report({ type: 'step', text: `packing ${name} ${version} for ${arch} (${format}, ${profile})` });
  const file = join(dir, `payload.${format}`);
  const pack = format === 'squashfs' ? packSquashfs : packErofs;
  const { releaseFileOffset } = await pack(tools, tree, { name, kind, profile }, file);
  await checkContent(tools, store, file, format, tree);
  const payload: Payload = {
    ...claims,
    file: basename(file),
    sha256: await hashFile(file),
    size: (await stat(file)).size,
    releaseFileOffset,
    reload: measured.reload,
    tree: { digest: tree.digest, entries: tree.entries },
    needs: measured.needs,
    modules: measured.modules,
  };
  await writeAtomic(join(dir, 'payload.json'), `${JSON.stringify(payload, undefined, 2)}\n`);
}

/** Packs a payload in each format. The key of its inputs decides everything: a payload that the store has is not packed again. */
export async function packPayloads(
  input: PayloadInput,
  claims: readonly { readonly format: Format; readonly claims: PayloadClaims }[],
): Promise<PackedPayload[]> {
  const { loaded, store } = input;
  return store.withTemp(async (temp) => {
    // Staged at most once, and only when the store lacks a format.
    let staged: Promise<StagedTree> | undefined;
    const payloads: PackedPayload[] = [];
    for (const { format, claims: about } of claims) {
      const { dir } = await store.result('payload', packedKey(loaded, about.key), async (fresh) => {
        staged ??= stageTree(input, join(temp, 'tree'));
        await packTree(input, about, format, await staged, fresh);
      });
      payloads.push(await readPacked(dir, about));
    }
    return payloads;
  });
}

/** A payload in a folder of the store. */
async function readPacked(dir: string, claims: PayloadClaims): Promise<PackedPayload> {
  const where = join(dir, 'payload.json');
  const next = 'run flatcar-ext cache verify, and build again';
  const packed = parseJson(PackedSchema, await readFile(where, 'utf8'), { what: 'payload record', where, next });
  return { payload: { ...packed, ...claims }, file: join(dir, packed.file) };
}

/** The payload with these claims, if the store has it. Builds nothing. */
export async function storedPayload(loaded: LoadedExtension, claims: PayloadClaims, store: Store): Promise<PackedPayload | undefined> {
  const isMissing = new Error('the store does not have it');
  try {
    const { dir } = await store.result('payload', packedKey(loaded, claims.key), () => Promise.reject(isMissing));
    return await readPacked(dir, claims);
  } catch (error) {
    if (error === isMissing) return undefined;
    throw error;
  }
}

/** Writes the payload's record where `flatcar-ext bind` looks for it. A squashfs payload is the portable image itself. */
export async function exportPayload({ payload, file }: PackedPayload, out: string, images: readonly Image[]): Promise<void> {
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
