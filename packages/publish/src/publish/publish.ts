import { dirname } from 'node:path';
import { hasCode, timed, UserError } from '@flatcar/core/engine';
import { untilNoConflict } from './conflicts.ts';
import { ConflictError } from '../destinations/destination.ts';
import { checkInputs, checkRequires, readInputs, type Inputs } from './inputs.ts';
import { nextIndex, type NextIndex } from './next-index.ts';
import { DAY_MS } from '../metadata/metadata.ts';
import { originsText, parseOrigins, sameOrigins, type DeclaredOrigins } from '../tree/origins.ts';
import type { PublishOptions, PublishResult } from './options.ts';
import { promote } from './promote.ts';
import { publicKeys, type PublicKeys } from './public-keys.ts';
import type { ExtensionIndex, Index } from '../tree/schema.ts';
import { rootFiles } from './root-files.ts';
import { checkServed } from './served.ts';
import { checkRevoked, isStateStale, publisherTrust, rememberState, signersOf, signState, type StagedState } from './sign-state.ts';
import { signSums } from './sign.ts';
import { checkKeyring } from './signing-policy.ts';
import { stageAll, type StagedPublish } from './stage-all.ts';
import { NoTreeError, readPublished, type Published } from '../tree/state.ts';

/** The URL of a tree for its transfer files, without a trailing slash. */
function baseUrlOf(given: string | undefined, before: string | undefined): string {
  const url = (given || before)?.replace(/\/+$/, '');
  if (url === undefined)
    throw new UserError('the URL of this tree is not known', {
      where: '--base-url',
      next: 'pass --base-url URL: transfer files contain it',
    });
  if (!/^https?:\/\/[^/\s?#]+[^\s?#]*$/.test(url) || !URL.canParse(url))
    throw new UserError(`'${url}' is not a valid http(s) URL`, {
      where: '--base-url',
      next: 'pass the URL from which nodes fetch the tree',
    });
  return url;
}

/** The origins of a tree: those that it declares, else those that were specified. */
function originsOf({ destination, origins }: PublishOptions, before: Index | undefined): DeclaredOrigins {
  const specified = origins === undefined ? undefined : parseOrigins(origins);
  if (before === undefined) return specified ?? 'preferred';
  if (specified !== undefined && !sameOrigins(before.origins, specified))
    throw new UserError(
      `this tree declares the origins '${originsText(before.origins)}' and keeps them, and '${originsText(specified)}' was specified`,
      { where: destination.where, next: 'omit --origins, or publish images of other origins into another tree' },
    );
  // In the order of the tree: another order would be another index.
  return before.origins;
}

/** Days for which systemd-sysupdate accepts sums; the first publish in their second half signs all sums again. */
const SUMS_DAYS = 90;

/** The day from which systemd-sysupdate refuses sums: that of the published ones, while they have half of their time left. */
function sumsUntilOf(before: Index | undefined, now: Date): string {
  const dayIn = (days: number): string => new Date(now.getTime() + days * DAY_MS).toISOString().slice(0, 10);
  return before !== undefined && before.sumsUntil > dayIn(SUMS_DAYS / 2) ? before.sumsUntil : dayIn(SUMS_DAYS);
}

/**
 * Attempts in which sums or an index with a signature that does not match count as those of a publisher at work. Later, as what a killed
 * publisher left.
 */
const PATIENT_ATTEMPTS = 4;

/** One attempt to publish. */
interface Attempt {
  readonly options: PublishOptions;
  readonly inputs: Inputs;
  readonly staging: string;
  /** A ConflictError is thrown for files that another publisher may just be replacing. */
  readonly patient: boolean;
}

/** Everything that follows from the staged files: the indexes, signed sums, public keys and signed metadata. */
interface SignedPublish {
  readonly extensions: ReadonlyMap<string, ExtensionIndex>;
  readonly sums: ReadonlyMap<string, ReadonlyMap<string, Buffer>>;
  readonly keys: PublicKeys;
  readonly next: NextIndex;
  readonly state: StagedState;
}

/** Composes and signs what lists the staged files. After a change of keys or of the URL, everything is signed again. */
async function signAll(
  { options, staging, patient }: Attempt,
  published: Published,
  staged: StagedPublish,
  { baseUrl, origins }: { readonly baseUrl: string; readonly origins: DeclaredOrigins },
): Promise<SignedPublish> {
  const { destination, keys, report } = options;
  const { index: before, metadata } = published;
  const now = new Date();
  const sumsKeys = keys.sums.map((key) => key.getFingerprint()).toSorted();
  const sumsUntil = sumsUntilOf(before, now);
  const resignAll =
    before !== undefined && (before.baseUrl !== baseUrl || before.sumsKeys.join() !== sumsKeys.join() || before.sumsUntil !== sumsUntil);
  const extensions = new Map(staged.extensions);
  if (resignAll)
    for (const { name } of before?.extensions ?? []) {
      const index = extensions.has(name) ? undefined : await published.extension(name);
      if (index !== undefined) extensions.set(name, index);
    }
  const changed = resignAll ? staged.packages : staged.official.map(({ entry }) => entry);
  const sums = await signSums(destination, keys, {
    extensions: [...extensions.values()],
    packages: staged.packages,
    folders: new Set(changed.map(({ path }) => dirname(path))),
    removed: staged.retired,
    until: sumsUntil,
    patient,
  });
  const publics = await publicKeys(destination, keys, before, { patient, report });
  const next = await nextIndex(staging, before, {
    baseUrl,
    origins,
    extensions,
    packages: staged.packages,
    keys: publics.listed,
    sumsKeys,
    sumsUntil,
    metadata,
    renew: metadata !== undefined && isStateStale(metadata, signersOf(keys.metadata, metadata), now),
    removed: [...staged.retired, ...staged.orphans],
  });
  const state = await signState(destination, staging, published, { ...next, keys: keys.metadata }, now);
  return { extensions, sums, keys: publics, next, state };
}

async function publishOnce(attempt: Attempt, added: Set<string>): Promise<PublishResult> {
  const { options, inputs, staging } = attempt;
  const { destination, keys, report = () => undefined, signal } = options;
  // checkDestination decided whether the tree may be empty.
  const trust = await publisherTrust(destination, keys.metadata, options.acceptExpired);
  const published = await readPublished(destination, trust, { firstPublish: true });
  const { index: before } = published;
  checkRevoked(published.metadata, signersOf(keys.metadata, published.metadata), destination.where, options.acceptRevoked === true);
  const origins = originsOf(options, before);
  const baseUrl = baseUrlOf(options.baseUrl, before?.baseUrl);
  const publishedNames = before?.extensions.map(({ name }) => name) ?? [];
  checkInputs(inputs, origins);
  checkRequires(inputs, publishedNames);
  await checkKeyring(options);

  const staged = await stageAll(options, published, staging, inputs);
  report({ type: 'step', text: 'signing' });
  signal?.throwIfAborted();
  const made = await timed('sign', () => signAll(attempt, published, staged, { baseUrl, origins }));
  const { extensions, sums, keys: publics, next, state } = made;

  signal?.throwIfAborted();
  await destination.openToOthers([...publishedNames, ...extensions.keys()], report);
  report({ type: 'step', text: `promoting ${staged.staged.length} images to ${destination.where}` });
  const root = await rootFiles(destination, next.index, options.page);
  await timed('promote', () =>
    promote(destination, {
      images: staged.staged,
      official: staged.official.flatMap((one) => one.files),
      deltas: staged.deltas,
      keys: publics,
      baseUrl,
      sums,
      extensions: extensions.values(),
      listed: next.files,
      root,
      ...state,
    }),
  );
  await rememberState(destination, state.timestamp);
  for (const { image } of staged.staged) added.add(image.path);
  if (!destination.locks) await checkServed(destination, trust, { names: [...extensions.keys()], paths: added });
  await destination.remove(next.dropped);
  return {
    where: destination.where,
    serial: next.index.serial,
    added: [...added],
    unchanged: inputs.images.length - added.size,
    retired: staged.retired,
    signed: [...sums.keys()].toSorted(),
  };
}

/**
 * Decides, before anything is written, whether there is a tree to publish into. A new or empty folder may become one. A bucket without an
 * index, or a folder with other files, may be a typo or a tree that lost its index: `firstPublish` must be set.
 */
async function checkDestination({
  destination,
  keys,
  paths,
  baseUrl,
  firstPublish = false,
  acceptExpired,
  withdraw,
  retire,
}: PublishOptions): Promise<void> {
  const trust = await publisherTrust(destination, keys.metadata, acceptExpired);
  const { index } = await readPublished(destination, trust, { firstPublish: true });
  if (index === undefined) {
    const needsTree = withdraw !== undefined || retire !== undefined || (paths.length === 0 && !firstPublish);
    if (needsTree) throw new NoTreeError(destination, 'check the name: this command needs a published tree');
    if (!firstPublish && (await destination.isNew()) !== true)
      throw new NoTreeError(destination, 'check the name; to make this the root of a new tree, pass --first-publish');
  }
  baseUrlOf(baseUrl, index?.baseUrl);
}

/**
 * Publishes images into a tree: stage by digest → check as a client would → sign → promote, sums and index last. A publish that fails or is
 * killed leaves the served tree as it was, and the next run completes it. Published files stay as they are.
 */
export async function publish(options: PublishOptions): Promise<PublishResult> {
  const { destination, paths } = options;
  if (options.origins !== undefined) parseOrigins(options.origins);
  const inputs = await readInputs(paths);
  if (options.withdraw === undefined && paths.length > 0 && inputs.images.length === 0)
    throw new UserError('no image found', {
      where: paths.join(', '),
      next: 'name folders that flatcar-ext build or bind wrote',
    });
  const added = new Set<string>();
  return untilNoConflict(async (attempt) => {
    try {
      await checkDestination(options);
      const patient = !destination.locks && attempt <= PATIENT_ATTEMPTS;
      return await destination.publish((staging) => publishOnce({ options, inputs, staging, patient }, added));
    } catch (error) {
      // Without a lock, another publisher may have removed what this one was about to read.
      if (hasCode(error, 'bad-signature') && !destination.locks && attempt <= PATIENT_ATTEMPTS) throw new ConflictError(destination.where);
      throw error;
    }
  }, options);
}
