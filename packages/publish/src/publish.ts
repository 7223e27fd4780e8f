import { copyFile, open, rename, stat, writeFile } from 'node:fs/promises';
import { constants } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { compareVersions, formatSums, hashFile, mapParallel, parseSums, UserError, type Payload, type Report } from '@flatcar/core';
import { checkEvidence, checkImage, checkUpdate } from './check.ts';
import { payloadDigests, writePayload } from './crau.ts';
import { ConflictError, TakenError, type Destination, type FileAbout } from './destination.ts';
import { checkInputs, readInputs, type DeclaredOrigins, type Input } from './inputs.ts';
import { publicPem, type PublishKeys } from './keys.ts';
import {
  extensionIndexPath, INDEX, KEYS, officialBase, officialFolder, packagesPath, payloadPath, SIGNATURE, SUMS, transferPath, type Channel,
} from './layout.ts'; // prettier-ignore
import { addImages, foldersOf, markWithdrawn, publishedPath, type Evidence } from './merge.ts';
import { goodSignatures, keyringOf, signDetached } from './pgp.ts';
import { extensionIndexText, indexText, packagesText, SCHEMA, type ExtensionIndex, type Index, type UpdatePackage } from './schema.ts';
import { readPublished, sha256Of, type Published } from './state.ts';
import { TRANSFER_SUFFIXES, transferText } from './transfer.ts';

export interface PublishOptions {
  /** Images and payload records, or folders that hold them. */
  readonly paths: readonly string[];
  readonly destination: Destination;
  readonly keys: PublishKeys;
  /** URL under which the tree is served; that of the tree unless said. */
  readonly baseUrl?: string;
  /** Declared by the first publish into a tree; `preferred` unless said. A tree keeps what it has declared. */
  readonly origins?: DeclaredOrigins;
  /** A version to mark as withdrawn, with the one among the images that takes its place. */
  readonly withdraw?: { readonly name: string; readonly version: string; readonly reason: string; readonly by: string };
  readonly report?: Report;
  readonly signal?: AbortSignal;
}

/** What a publish did. */
export interface PublishResult {
  readonly where: string;
  readonly serial: number;
  /** Paths of images that were not there before. */
  readonly added: readonly string[];
  /** Number of given images that were published before, with the same bytes. */
  readonly unchanged: number;
  /** Folders whose sums were written. */
  readonly signed: readonly string[];
}

/** A file in the staging folder, and where it goes. */
interface Staged extends FileAbout {
  readonly from: string;
  readonly path: string;
}

/** Copies a file into the staging folder, under its digest: what is there under it already is taken, and checked like all else. */
async function stageFile(staging: string, file: string, sha256: string): Promise<string> {
  const staged = join(staging, sha256);
  const there = await hashFile(staged).catch(() => undefined);
  if (there === sha256) return staged;
  const temporary = `${staged}.${randomBytes(4).toString('hex')}.tmp`;
  await copyFile(file, temporary, constants.COPYFILE_FICLONE);
  const handle = await open(temporary, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, staged);
  return staged;
}

async function stageText(staging: string, path: string, text: string): Promise<Staged> {
  const bytes = Buffer.from(text);
  const sha256 = sha256Of(bytes);
  const from = join(staging, sha256);
  const temporary = `${from}.${randomBytes(4).toString('hex')}.tmp`;
  await writeFile(temporary, bytes);
  await rename(temporary, from);
  return { from, path, sha256, size: bytes.length };
}

/** One image, staged with its evidence. */
interface StagedImage {
  readonly input: Input;
  readonly image: Staged;
  readonly sidecars: readonly Staged[];
  readonly evidence: Evidence;
}

async function stageImage(staging: string, input: Input, payload: Payload | undefined): Promise<StagedImage> {
  const { manifest, sidecars } = input;
  const path = publishedPath(manifest);
  const image = { from: await stageFile(staging, input.file, manifest.sha256), path, sha256: manifest.sha256, size: manifest.size };
  const stage = async (file: string): Promise<Staged> => {
    const sha256 = await hashFile(file).catch((cause: unknown) => {
      throw new UserError('a sidecar of the image is missing', {
        where: file,
        cause,
        next: 'build the image again; nothing was published',
      });
    });
    const from = await stageFile(staging, file, sha256);
    return { from, path: path.replace(/[^/]+$/, basename(file)), sha256, size: (await stat(from)).size };
  };
  const [manifestFile, sbom, provenance] = [await stage(sidecars.manifest), await stage(sidecars.sbom), await stage(sidecars.provenance)];
  // Only what decides bytes: the record's path differs from folder to folder.
  const record =
    payload === undefined
      ? undefined
      : await stageText(staging, payloadPath(manifest.name, manifest.payload), `${JSON.stringify({ ...payload, file: '' })}\n`);
  return {
    input,
    image,
    sidecars: [manifestFile, sbom, provenance, ...(record === undefined ? [] : [record])],
    evidence: { manifest: manifestFile.sha256, sbom: sbom.sha256, provenance: provenance.sha256, record: record?.sha256 ?? '' },
  };
}

/** Checks what was staged as whoever fetches it would. */
async function checkStaged({ input, image, sidecars }: StagedImage): Promise<void> {
  await checkImage(image.from, input.manifest);
  const [manifest, sbom, provenance] = sidecars;
  if (manifest === undefined || sbom === undefined || provenance === undefined) throw new Error('an image has three sidecars');
  await checkEvidence({ sbom: sbom.from, provenance: provenance.from }, input.manifest);
  for (const { from, sha256 } of sidecars)
    if ((await hashFile(from)) !== sha256) throw new UserError('a staged sidecar was changed', { where: from, next: 'run publish again' });
}

/**
 * The images that stand for their extension in the official layout: for each release and architecture that has none yet the newest of those
 * that are published now. Its name has no version, and a published name keeps its bytes: like Flatcar's own it stays for the release's life.
 */
function officialImages(staged: readonly StagedImage[], packages: readonly UpdatePackage[]): StagedImage[] {
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

/** Update payload and image of the official layout. */
async function stageOfficial(
  staging: string,
  { input, image }: StagedImage,
  keys: PublishKeys,
): Promise<{ files: Staged[]; entry: UpdatePackage }> {
  const { name, version, target: release, architecture } = input.manifest;
  const base = `${officialFolder(release, architecture)}/${officialBase(name)}`;
  const temporary = join(staging, `${image.sha256}.gz.tmp`);
  const digests = await writePayload({ file: image.from, sha256: image.sha256 }, temporary, keys.update);
  const from = join(staging, digests.sha256);
  await rename(temporary, from);
  await checkUpdate(from, image.sha256, keys.update);
  const written = await payloadDigests(from);
  if (written.sha256 !== digests.sha256) throw new UserError('the update payload was changed while it was staged', { where: from });
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

/** Transfer files of an extension: for portable and for bound images, each in every channel. */
export function transferFiles({ name, kind: merges, versions }: ExtensionIndex, baseUrl: string): Map<string, Buffer> {
  const listed = versions.filter(({ withdrawn }) => withdrawn === undefined);
  const files = new Map<string, Buffer>();
  for (const kind of ['portable', 'release'] as const) {
    const having = listed.filter(({ images }) => images.some(({ target }) => (target === 'portable') === (kind === 'portable')));
    if (having.length === 0) continue;
    // `1.36` follows patches, `1` minors: a branch is what has at least one part more.
    const branches = having.flatMap(({ upstream }) => {
      const parts = upstream.split('.');
      return parts.slice(0, -1).map((_, index) => parts.slice(0, index + 1).join('.'));
    });
    const channels: Channel[] = [
      { kind: 'latest' },
      ...[...new Set(branches)].map((version): Channel => ({ kind: 'branch', version })),
      // Versions of one number are branches of nothing; a pinned one never has the name of a branch.
      ...having.filter(({ version }) => !branches.includes(version)).map(({ version }): Channel => ({ kind: 'pinned', version })),
    ];
    for (const channel of channels) {
      const text = Buffer.from(transferText({ name, kind, channel, merges, baseUrl }));
      for (const suffix of TRANSFER_SUFFIXES) files.set(`${transferPath(name, kind, channel)}${suffix}`, text);
    }
  }
  return files;
}

/** Replaces files of one folder where one of them differs from what is served. */
async function replaceChanged(destination: Destination, folder: string, files: ReadonlyMap<string, Buffer>): Promise<boolean> {
  const prefix = folder === '' ? '' : `${folder}/`;
  const served = await Promise.all(
    [...files].map(async ([name, bytes]) => (await destination.read(prefix + name))?.equals(bytes) === true),
  );
  if (served.every(Boolean)) return false;
  await destination.replace(folder, files);
  return true;
}

/** A text with its signature, ready to be switched together. */
async function signed(name: string, text: string, keys: PublishKeys): Promise<Map<string, Buffer>> {
  const bytes = Buffer.from(text);
  const signature = await signDetached(bytes, keys.sums);
  const good = await goodSignatures(bytes, signature, keys.sums.map((key) => key.toPublic())); // prettier-ignore
  if (good.size !== keys.sums.length) throw new UserError('a signature made just now is not good; nothing was published', { where: name });
  return new Map([
    [name, bytes],
    [`${name}${SIGNATURE}`, signature],
  ]);
}

/** True when exactly the keys that sign now have signed a file as it is served. */
async function signedByUs(destination: Destination, path: string, keys: PublishKeys): Promise<boolean> {
  const [bytes, signature] = [await destination.read(path), await destination.read(`${path}${SIGNATURE}`)];
  if (bytes === undefined || signature === undefined) return false;
  const good = await goodSignatures(bytes, signature, keys.trusted);
  return good.size === keys.sums.length && keys.sums.every((key) => good.has(key.getFingerprint()));
}

/**
 * The sums of a folder: what the index lists, and what a publish that has not got as far as the index entered there before.
 * `gone` names what must not be listed any more. `isFixed`: a name that is listed has its bytes for good; in the official layout only the
 * index decides that.
 */
async function sumsOf(
  destination: Destination,
  folder: string,
  listed: readonly { path: string; sha256: string }[],
  gone: ReadonlySet<string>,
  keys: PublishKeys,
  isFixed: boolean,
): Promise<string> {
  const path = `${folder}/${SUMS}`;
  const [bytes, signature] = [await destination.read(path), await destination.read(`${path}${SIGNATURE}`)];
  const isOurs = bytes !== undefined && signature !== undefined && (await goodSignatures(bytes, signature, keys.trusted)).size > 0;
  const sums = isOurs ? parseSums(bytes.toString(), path) : new Map<string, string>();
  for (const { path: file, sha256 } of listed) {
    const name = basename(file);
    const before = sums.get(name);
    if (isFixed && before !== undefined && before !== sha256) throw new TakenError(`${destination.where}/${path}`, file);
    sums.set(name, sha256);
  }
  for (const name of gone) sums.delete(name);
  return formatSums(sums);
}

/**
 * A file of the official layout that no index lists yet. Its name has no version: what stands there may be another version's, of a publish
 * that died (then it is replaced) or, where nobody is kept out, of one at work (then it is waited for).
 */
async function putOfficial(destination: Destination, file: Staged): Promise<void> {
  if (destination.locks) return destination.putOver(file.path, file.from, file);
  await destination.put(file.path, file.from, file).catch((error: unknown) => {
    throw error instanceof TakenError ? new ConflictError(`${destination.where}/${file.path}`) : error;
  });
}

/** Everything that is to appear, staged and checked. */
interface Plan {
  readonly staged: readonly StagedImage[];
  readonly unchanged: number;
  readonly official: readonly { files: readonly Staged[]; entry: UpdatePackage }[];
  readonly extensions: ReadonlyMap<string, ExtensionIndex>;
  readonly packages: readonly UpdatePackage[];
}

async function stageAll(
  options: PublishOptions,
  published: Published,
  staging: string,
  inputs: Awaited<ReturnType<typeof readInputs>>,
): Promise<Plan> {
  const { keys, report = () => undefined, signal, withdraw } = options;
  const before = new Map<string, ExtensionIndex | undefined>();
  const names = new Set([...inputs.images.map(({ manifest }) => manifest.name), ...(withdraw === undefined ? [] : [withdraw.name])]);
  for (const name of names) before.set(name, await published.extension(name));

  // The same bytes under the same name are published already; everything else is new, or refused by addImages.
  const known = new Map<string, string>();
  for (const index of before.values())
    for (const { images } of index?.versions ?? []) for (const one of images) known.set(one.path, one.sha256);
  const fresh = inputs.images.filter(({ manifest }) => known.get(publishedPath(manifest)) !== manifest.sha256);

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
      await checkStaged(one);
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
  const chosen = keys.update.length === 0 ? [] : officialImages(staged, packagesBefore);
  if (chosen.length > 0) report({ type: 'step', text: `making ${chosen.length} update payloads` });
  const official: { files: Staged[]; entry: UpdatePackage }[] = [];
  for (const one of chosen) {
    signal?.throwIfAborted();
    official.push(await stageOfficial(staging, one, keys));
  }
  const packages = [...packagesBefore, ...official.map(({ entry }) => entry)].toSorted((a, b) => (a.path < b.path ? -1 : 1));
  return { staged, unchanged: inputs.images.length - fresh.length, official, extensions, packages };
}

/** Sums of every folder that this publish touches, with their signatures. */
async function signSums(
  options: PublishOptions,
  { extensions, official, packages }: Plan,
  touched: ReadonlySet<string>,
): Promise<Map<string, Map<string, Buffer>>> {
  const { destination, keys } = options;
  const folders = new Map<string, { listed: { path: string; sha256: string }[]; gone: Set<string>; isFixed: boolean }>();
  for (const index of extensions.values()) {
    const gone = new Set(
      index.versions.filter(({ withdrawn }) => withdrawn !== undefined).flatMap(({ images }) => images.map(({ path }) => basename(path))),
    );
    for (const [folder, listed] of foldersOf(index)) folders.set(folder, { listed, gone, isFixed: true });
  }
  const boards = new Set(official.map(({ entry }) => entry.path.replace(/\/[^/]+$/, '')));
  for (const folder of touched.has('*') ? new Set(packages.map(({ path }) => path.replace(/\/[^/]+$/, ''))) : boards)
    folders.set(folder, {
      listed: packages.filter(({ path }) => path.startsWith(`${folder}/`)).flatMap((one) => [one.image, one]),
      gone: new Set(),
      isFixed: false,
    });
  const result = new Map<string, Map<string, Buffer>>();
  await mapParallel(
    [...folders],
    async ([folder, { listed, gone, isFixed }]) => {
      const text = await sumsOf(destination, folder, listed, gone, keys, isFixed);
      const same = (await destination.read(`${folder}/${SUMS}`))?.toString() === text;
      if (same && (await signedByUs(destination, `${folder}/${SUMS}`, keys))) return;
      result.set(folder, await signed(SUMS, text, keys));
    },
    8,
  );
  return result;
}

const fileOf = ({ path, size, sha256 }: Staged): { path: string; size: number; sha256: string } => ({ path, size, sha256 });

async function publishOnce(
  options: PublishOptions,
  inputs: Awaited<ReturnType<typeof readInputs>>,
  staging: string,
): Promise<PublishResult> {
  const { destination, keys, report = () => undefined, signal } = options;
  const published = await readPublished(destination, keys.trusted);
  const { index: before } = published;
  const origins = options.origins ?? before?.origins ?? 'preferred';
  if (before !== undefined && JSON.stringify(before.origins) !== JSON.stringify(origins))
    throw new UserError(`this tree declares the origins ${String(before.origins)}, and it keeps to that`, {
      where: destination.where,
      next: 'publish what has other origins into another tree',
    });
  const baseUrl = (options.baseUrl ?? before?.baseUrl)?.replace(/\/+$/, '');
  if (baseUrl === undefined)
    throw new UserError('the URL under which this tree is served is not known', {
      next: 'give it by --base-url: it stands in the transfer files',
    });
  checkInputs(inputs, origins);

  // After a change of keys or of the URL everything is written anew, whatever is published now.
  const isOurs = before === undefined || (await signedByUs(destination, INDEX, keys));
  const touched = new Set(isOurs && (before === undefined || before.baseUrl === baseUrl) ? [] : ['*']);
  const plan = await stageAll(options, published, staging, inputs);
  const everything = new Map(plan.extensions);
  if (touched.has('*'))
    for (const { name } of before?.extensions ?? []) {
      const index = everything.has(name) ? undefined : await published.extension(name);
      if (index !== undefined) everything.set(name, index);
    }
  const whole = { ...plan, extensions: everything };

  report({ type: 'step', text: 'signing' });
  signal?.throwIfAborted();
  const sums = await signSums(options, whole, touched);

  // The index, which is what makes it all count.
  const indexFiles: Staged[] = [];
  const entries = new Map((before?.extensions ?? []).map((one) => [one.name, one]));
  for (const [name, index] of whole.extensions) {
    const text = extensionIndexText(index);
    const sha256 = sha256Of(Buffer.from(text));
    const file = await stageText(staging, extensionIndexPath(name, sha256), text);
    indexFiles.push(file);
    const newest = index.versions.find(({ withdrawn }) => withdrawn === undefined)?.version ?? '';
    entries.set(name, { name, summary: index.summary, newest, ...fileOf(file) });
  }
  const packagesList = packagesText(plan.packages);
  const packagesFile = await stageText(staging, packagesPath(sha256Of(Buffer.from(packagesList))), packagesList);
  indexFiles.push(packagesFile);
  const extensions = [...entries.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const listed = new Set([...extensions.map(({ path }) => path), packagesFile.path]);
  const superseded = (before === undefined ? [] : [...before.extensions.map(({ path }) => path), before.packages.path]).filter(
    (path) => !listed.has(path),
  );
  const next = (serial: number, dropped: string[]): Index => ({
    schema: SCHEMA, serial, baseUrl, origins, extensions, packages: fileOf(packagesFile), superseded: dropped,
  }); // prettier-ignore
  const isSame = before !== undefined && indexText(next(before.serial, before.superseded)) === indexText(before);
  const index = isSame ? before : next((before?.serial ?? 0) + 1, superseded);
  const indexSet = isSame && isOurs ? undefined : await signed(INDEX, indexText(index), keys);

  // Promote: first what nothing points to yet, then what points to it.
  signal?.throwIfAborted();
  report({ type: 'step', text: `promoting ${plan.staged.length} images to ${destination.where}` });
  await mapParallel(
    plan.staged,
    async ({ image, sidecars }) => {
      for (const file of sidecars) await destination.putOver(file.path, file.from, file);
      await destination.put(image.path, image.from, image);
    },
    4,
  );
  for (const { files } of plan.official) for (const file of files) await putOfficial(destination, file);
  await destination.settle?.();
  await replaceChanged(destination, 'keys', publicKeyFiles(keys));
  for (const [folder, files] of sums) await destination.replace(folder, files);
  for (const extension of whole.extensions.values()) {
    const folders = Map.groupBy(transferFiles(extension, baseUrl), ([path]) => path.replace(/\/[^/]+$/, ''));
    for (const [folder, files] of folders)
      await replaceChanged(destination, folder, new Map(files.map(([path, bytes]) => [basename(path), bytes])));
  }
  for (const file of indexFiles) await destination.put(file.path, file.from, file);
  if (indexSet !== undefined) await destination.replace('', indexSet);
  if (!isSame && before !== undefined)
    await destination.remove(before.superseded.filter((path) => !listed.has(path) && !superseded.includes(path)));
  return {
    where: destination.where,
    serial: index.serial,
    added: plan.staged.map(({ image }) => image.path),
    unchanged: plan.unchanged,
    signed: [...sums.keys()].toSorted(),
  };
}

/** Public keys, as nodes take them. */
function publicKeyFiles({ trusted, update, certificate }: PublishKeys): Map<string, Buffer> {
  return new Map([
    [basename(KEYS.keyring), keyringOf(trusted)],
    ...(update.length === 0 ? [] : [[basename(KEYS.update), Buffer.from(update.map(publicPem).join(''))] as const]),
    ...(certificate === undefined ? [] : [[basename(KEYS.certificate), Buffer.from(certificate)] as const]),
  ]);
}

/** How often a publish begins anew because another one was faster. */
const ATTEMPTS = 5;

/**
 * Publishes images into a tree: stage by digest → check as a client would → sign → promote, sums and index last. Whatever fails or dies
 * before leaves what is served as it was; running it again completes it; what is published already is left alone.
 */
export async function publish(options: PublishOptions): Promise<PublishResult> {
  const inputs = await readInputs(options.paths);
  if (options.withdraw === undefined && options.paths.length > 0 && inputs.images.length === 0)
    throw new UserError('there is no image here', {
      where: options.paths.join(', '),
      next: 'name folders that flatcar-ext build or bind wrote',
    });
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await options.destination.publish((staging) => publishOnce(options, inputs, staging));
    } catch (error) {
      if (!(error instanceof ConflictError) || attempt === ATTEMPTS) throw error;
      options.report?.({ type: 'notice', text: `${error.message}: beginning anew` });
      await sleep(attempt * 1000, undefined, options.signal === undefined ? {} : { signal: options.signal });
    }
  }
}
