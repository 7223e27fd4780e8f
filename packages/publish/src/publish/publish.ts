import { dirname } from 'node:path';
import { UserError } from '@flatcar/core/engine';
import { untilNoConflict } from './conflicts.ts';
import { ConflictError } from '../destinations/destination.ts';
import { checkInputs, checkRequires, readInputs, type Inputs } from './inputs.ts';
import { INDEX } from '../tree/layout.ts';
import { nextIndex, stageSignature } from './next-index.ts';
import { originsText, parseOrigins, sameOrigins } from '../tree/origins.ts';
import type { PublishOptions, PublishResult } from './options.ts';
import { promote } from './promote.ts';
import { publicKeys } from './public-keys.ts';
import { indexText } from '../tree/schema.ts';
import { checkServed } from './served.ts';
import { signed, signedByUs, signSums } from './sign.ts';
import { checkKeyring } from './signing-policy.ts';
import { stageAll } from './stage-all.ts';
import { NoTreeError, readPublished, SignatureError } from '../tree/state.ts';

/** The URL of a tree, for its transfer files, without a slash at its end. */
function baseUrlOf(given: string | undefined, before: string | undefined): string {
  const url = (given || before)?.replace(/\/+$/, '');
  if (url === undefined)
    throw new UserError('the URL under which this tree is served is not known', {
      where: '--base-url',
      next: 'pass --base-url URL: it stands in the transfer files',
    });
  if (!/^https?:\/\/[^/\s?#]+[^\s?#]*$/.test(url) || !URL.canParse(url))
    throw new UserError(`'${url}' is not a valid http(s) URL`, {
      where: '--base-url',
      next: 'pass the URL under which nodes see the tree',
    });
  return url;
}

async function publishOnce(
  options: PublishOptions,
  inputs: Inputs,
  staging: string,
  attempt: number,
  added: Set<string>,
): Promise<PublishResult> {
  const { destination, keys, report = () => undefined, signal } = options;
  // That it may be empty was decided before anything was made.
  const published = await readPublished(destination, keys.trusted, { firstPublish: true });
  const { index: before } = published;
  const wanted = options.origins === undefined ? undefined : parseOrigins(options.origins);
  if (before !== undefined && wanted !== undefined && !sameOrigins(before.origins, wanted))
    throw new UserError(
      `this tree declares the origins '${originsText(before.origins)}' and keeps them, and '${originsText(wanted)}' was specified`,
      { where: destination.where, next: 'leave --origins out, or publish what has other origins into another tree' },
    );
  // In the order in which the tree lists them: another order would be another index.
  const origins = before?.origins ?? wanted ?? 'preferred';
  const baseUrl = baseUrlOf(options.baseUrl, before?.baseUrl);
  checkInputs(inputs, origins);
  checkRequires(inputs, before?.extensions.map(({ name }) => name) ?? []);
  await checkKeyring(options);

  const plan = await stageAll(options, published, staging, inputs);
  // After a change of keys or of the URL everything is written anew, whatever is published now.
  const isOurs = before === undefined || (await signedByUs(destination, INDEX, keys));
  const resignAll = !isOurs || (before !== undefined && before.baseUrl !== baseUrl);
  const extensions = new Map(plan.extensions);
  if (resignAll)
    for (const { name } of before?.extensions ?? []) {
      const index = extensions.has(name) ? undefined : await published.extension(name);
      if (index !== undefined) extensions.set(name, index);
    }

  report({ type: 'step', text: 'signing' });
  signal?.throwIfAborted();
  const entries = resignAll ? plan.packages : plan.official.map(({ entry }) => entry);
  const sums = await signSums(destination, keys, {
    extensions: [...extensions.values()],
    packages: plan.packages,
    folders: new Set(entries.map(({ path }) => dirname(path))),
    gone: plan.retired,
    patient: !destination.locks && attempt <= PATIENT_ATTEMPTS,
  });
  const publics = await publicKeys(destination, keys, before, { patient: !destination.locks && attempt <= PATIENT_ATTEMPTS, report });
  const { index, isSame, files, dropped } = await nextIndex(staging, before, {
    baseUrl,
    origins,
    extensions,
    packages: plan.packages,
    keys: publics.listed,
    signatures: !destination.locks,
    gone: [...plan.retired, ...plan.orphans],
  });
  const indexSet = isSame && isOurs ? undefined : await signed(INDEX, indexText(index), keys);

  signal?.throwIfAborted();
  await destination.openToOthers([...(before?.extensions ?? []).map(({ name }) => name), ...extensions.keys()], report);
  report({ type: 'step', text: `promoting ${plan.staged.length} images to ${destination.where}` });
  await promote(destination, {
    images: plan.staged,
    official: plan.official.flatMap((one) => one.files),
    keys: publics,
    baseUrl,
    sums,
    extensions: extensions.values(),
    listed: files,
    signature: indexSet === undefined || destination.locks ? undefined : await stageSignature(staging, indexSet),
    index: indexSet,
  });
  for (const { image } of plan.staged) added.add(image.path);
  if (!destination.locks) await checkServed(destination, keys.trusted, { names: [...extensions.keys()], paths: added });
  await destination.remove(dropped);
  return {
    where: destination.where,
    serial: index.serial,
    added: [...added],
    unchanged: inputs.images.length - added.size,
    retired: plan.retired,
    signed: [...sums.keys()].toSorted(),
  };
}

/** So often, sums or an index whose signature does not fit are taken for those of a publisher at work, and later for what a dead one left. */
const PATIENT_ATTEMPTS = 4;

/**
 * Decides, before anything is made, that there is a tree to publish into. A folder that is empty or not there yet may become one; a bucket
 * without an index, or a folder with other files, may be a typo or a tree that lost its index: the caller must say that it is meant.
 */
async function checkDestination({
  destination,
  keys,
  paths,
  baseUrl,
  firstPublish = false,
  withdraw,
  retire,
}: PublishOptions): Promise<void> {
  const { index } = await readPublished(destination, keys.trusted, { firstPublish: true });
  if (index === undefined) {
    const needsTree = withdraw !== undefined || retire !== undefined || (paths.length === 0 && !firstPublish);
    if (needsTree) throw new NoTreeError(destination, 'check the name: this works on a tree that is published already');
    if (!firstPublish && (await destination.isNew()) !== true)
      throw new NoTreeError(destination, 'check the name; to make this the root of a new tree, pass --first-publish');
  }
  baseUrlOf(baseUrl, index?.baseUrl);
}

/**
 * Publishes images into a tree: stage by digest → check as a client would → sign → promote, sums and index last. Whatever fails or dies
 * before leaves what is served as it was; running it again completes it; what is published already is left alone.
 */
export async function publish(options: PublishOptions): Promise<PublishResult> {
  const { destination, paths } = options;
  if (options.origins !== undefined) parseOrigins(options.origins);
  const inputs = await readInputs(paths);
  if (options.withdraw === undefined && paths.length > 0 && inputs.images.length === 0)
    throw new UserError('there is no image here', {
      where: paths.join(', '),
      next: 'name folders that flatcar-ext build or bind wrote',
    });
  const added = new Set<string>();
  return untilNoConflict(async (attempt) => {
    try {
      await checkDestination(options);
      return await destination.publish((staging) => publishOnce(options, inputs, staging, attempt, added));
    } catch (error) {
      // Index and signature are two objects there: one of them may be another publisher's already.
      if (error instanceof SignatureError && !destination.locks && attempt <= PATIENT_ATTEMPTS) throw new ConflictError(destination.where);
      throw error;
    }
  }, options);
}
