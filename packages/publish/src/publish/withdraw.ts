import { mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  bindTargets, digestOf, imageVersion, openTools, targetOfImage, UserError, type Report, type SignKeys, type Store,
} from '@flatcar/core/engine'; // prettier-ignore
import { TakenError, type Destination } from '../destinations/destination.ts';
import type { PublishKeys } from '../keys/keys.ts';
import type { PublishResult } from './options.ts';
import { publish } from './publish.ts';
import { restorePayload } from '../tree/restore.ts';
import type { ExtensionIndex, PublishedVersion } from '../tree/schema.ts';
import { readPublished } from '../tree/state.ts';
import type { Tree } from '../tree/tree.ts';

export interface WithdrawOptions {
  readonly name: string;
  /** What must not be used any more. */
  readonly version: string;
  /** Published version whose content takes its place. */
  readonly content: string;
  readonly reason: string;
  readonly tree: Tree;
  readonly destination: Destination;
  readonly keys: PublishKeys;
  readonly sign?: SignKeys;
  /** As of publish. */
  readonly unsigned?: boolean;
  readonly store: Store;
  readonly report: Report;
  readonly signal?: AbortSignal;
}

/** What is to be withdrawn, and what takes its place. */
interface Withdrawal {
  readonly index: ExtensionIndex;
  readonly bad: PublishedVersion;
  readonly good: PublishedVersion;
}

/** Looks the two versions up. With `done`, the version is withdrawn already and this one took its place. */
async function lookUp({
  name,
  version,
  content,
  tree,
  keys,
}: WithdrawOptions): Promise<Withdrawal | { readonly done: string; readonly serial: number }> {
  const published = await readPublished(tree, keys.trusted);
  const index = await published.extension(name);
  const usable = (index?.versions ?? []).filter((one) => one.version !== version && one.withdrawn === undefined && one.images.length > 0);
  const there = (versions: readonly PublishedVersion[]): string => versions.map((one) => one.version).join(', ') || 'nothing';
  const bad = index?.versions.find((one) => one.version === version);
  if (index === undefined || bad === undefined)
    throw new UserError(`${name} ${version} is not published`, {
      where: tree.where,
      next:
        index === undefined
          ? `the tree has: ${(published.index?.extensions ?? []).map((one) => one.name).join(', ') || 'nothing'}`
          : `of ${name} it has: ${there(index.versions)}`,
    });
  if (bad.withdrawn !== undefined) return { done: bad.withdrawn.by, serial: published.index?.serial ?? 0 };
  const good = usable.find((one) => one.version === content);
  if (good === undefined)
    throw new UserError(`${name} ${content} cannot take its place`, {
      where: tree.where,
      next:
        usable.length === 0 ? 'no other version of it is published: publish a fixed one instead' : `versions that can: ${there(usable)}`,
    });
  return { index, bad, good };
}

/** Binds the content of the good version under the name of the replacement, for all of its targets, into a folder that can be published. */
async function bindReplacement(
  options: WithdrawOptions,
  { index, bad, good }: Withdrawal,
  revision: number,
  temp: string,
): Promise<string> {
  const { name, content, tree, store, report, signal, sign } = options;
  const out = join(temp, name);
  await mkdir(join(out, 'payload'), { recursive: true });
  for (const slot of Object.keys(good.payloads).toSorted()) {
    signal?.throwIfAborted();
    const of = good.images.filter(({ architecture, format }) => `${architecture} ${format}` === slot);
    const [first] = of;
    if (first === undefined) continue;
    const { architecture: arch, format } = first;
    const { payload: before, file } = await restorePayload(tree, index, { version: content, arch, format }, temp);
    const version = imageVersion(bad.upstream, revision);
    const key = digestOf({ step: 'withdraw', from: before.key, version });
    // A published record names no file.
    const payload = { ...before, key, version, upstream: bad.upstream, revision, file: basename(file) };
    const targets = of.map(({ target }) => targetOfImage(target, format));
    await bindTargets(payload, file, targets, {
      out,
      store,
      tools: openTools(store, report),
      report,
      ...(sign === undefined ? {} : { sign }),
    });
    await writeFile(join(out, 'payload', `${key}.payload.json`), JSON.stringify(payload));
  }
  return out;
}

/**
 * Withdraws a version: nodes stay on what they have when a version merely disappears, so a higher revision of it is published that has the
 * content of another version, for every target. The bad version leaves all sums and is marked in the index. What is withdrawn already (by a
 * run that was killed after its last step, or by somebody else at the same time) stays so.
 */
export async function withdraw(options: WithdrawOptions): Promise<PublishResult & { version: string }> {
  const { name, version, reason, tree, destination, keys, store, report, signal } = options;
  const isDone = (serial: number, by: string): PublishResult & { version: string } => {
    report({ type: 'notice', text: `${name} ${version} is withdrawn already, ${by} took its place` });
    return { where: destination.where, serial, added: [], unchanged: 0, retired: [], signed: [], version: by };
  };
  const found = await lookUp(options);
  if ('done' in found) return isDone(found.serial, found.done);
  const { index, bad } = found;
  const revision = Math.max(...index.versions.filter(({ upstream }) => upstream === bad.upstream).map((one) => one.revision)) + 1;
  const replacement = imageVersion(bad.upstream, revision);
  return store.withTemp(async (temp) => {
    const out = await bindReplacement(options, found, revision, temp);
    const result = await publish({
      paths: [out],
      destination,
      keys,
      report,
      withdraw: { name, version, reason, by: replacement },
      unsigned: options.unsigned === true,
      ...(signal === undefined ? {} : { signal }),
    }).catch(async (error: unknown) => {
      if (!(error instanceof TakenError)) throw error;
      const now = await lookUp(options);
      if ('done' in now) return isDone(now.serial, now.done);
      throw new UserError(`${name} ${replacement} was published by somebody else meanwhile`, {
        where: tree.where,
        next: 'run withdraw again',
        cause: error,
      });
    });
    return { ...result, version: 'version' in result ? result.version : replacement };
  });
}
