import { mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  bindTargets,
  digestOf,
  imageVersion,
  openTools,
  targetOfImage,
  UserError,
  hasCode,
  type Report,
  type SignKeys,
  type Store,
} from '@flatcar/core/engine';
import type { Destination } from '../destinations/destination.ts';
import type { PublishKeys } from '../keys/keys.ts';
import type { PublishResult } from './options.ts';
import { publish } from './publish.ts';
import { publisherTrust } from './sign-state.ts';
import { restorePayload } from '../tree/restore.ts';
import type { ExtensionIndex, PublishedVersion } from '../tree/schema.ts';
import { readPublished } from '../tree/state.ts';
import type { Tree } from '../tree/tree.ts';

export interface WithdrawOptions {
  readonly name: string;
  /** Version that must no longer be used. */
  readonly version: string;
  /** Published version whose content replaces it. */
  readonly content: string;
  readonly reason: string;
  readonly tree: Tree;
  readonly destination: Destination;
  readonly keys: PublishKeys;
  readonly sign?: SignKeys;
  /** As in PublishOptions. */
  readonly unsigned?: boolean;
  readonly store: Store;
  readonly report: Report;
  readonly signal?: AbortSignal;
}

/** A version to withdraw, and the version whose content replaces it. */
interface Withdrawal {
  readonly index: ExtensionIndex;
  readonly bad: PublishedVersion;
  readonly good: PublishedVersion;
}

/** Looks up both versions. `done`: the version is already withdrawn, and this is its replacement. */
async function lookUp({
  name,
  version,
  content,
  tree,
  keys,
}: WithdrawOptions): Promise<Withdrawal | { readonly done: string; readonly serial: number }> {
  const published = await readPublished(tree, await publisherTrust(tree, keys.metadata));
  const index = await published.extension(name);
  const usable = (index?.versions ?? []).filter((one) => one.version !== version && one.withdrawn === undefined && one.images.length > 0);
  const there = (versions: readonly PublishedVersion[]): string => versions.map((one) => one.version).join(', ') || 'none';
  const bad = index?.versions.find((one) => one.version === version);
  if (index === undefined || bad === undefined)
    throw new UserError(`${name} ${version} is not published`, {
      where: tree.where,
      next:
        index === undefined
          ? `published extensions: ${(published.index?.extensions ?? []).map((one) => one.name).join(', ') || 'none'}`
          : `published versions: ${there(index.versions)}`,
    });
  if (bad.withdrawn !== undefined) return { done: bad.withdrawn.by, serial: published.index?.serial ?? 0 };
  const good = usable.find((one) => one.version === content);
  if (good === undefined)
    throw new UserError(`${name} ${content} cannot replace ${version}`, {
      where: tree.where,
      next: usable.length === 0 ? 'no other version is published: publish a fixed version instead' : `versions that can: ${there(usable)}`,
    });
  return { index, bad, good };
}

/** Binds the content of the good version under the name of the replacement for all its targets, into a folder that can be published. */
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
    // A published record has no path.
    const payload = { ...before, key, version, upstream: bad.upstream, revision, file: basename(file) };
    const targets = of.map(({ target }) => targetOfImage(target, format));
    await bindTargets(payload, file, targets, {
      out,
      store,
      tools: openTools(store, report),
      report,
      sign,
    });
    await writeFile(join(out, 'payload', `${key}.payload.json`), JSON.stringify(payload));
  }
  return out;
}

/**
 * Withdraws a version. Nodes would keep a version that merely disappears, so a higher revision with the content of another version is
 * published for every target. The bad version is removed from all sums and marked in the index. A version that is already withdrawn (by a run
 * that was killed after its last step, or by somebody else at the same time) stays as it is.
 */
export async function withdraw(options: WithdrawOptions): Promise<PublishResult & { version: string }> {
  const { name, version, reason, tree, destination, keys, store, report, signal } = options;
  const isDone = (serial: number, by: string): PublishResult & { version: string } => {
    report({ type: 'notice', text: `${name} ${version} is already withdrawn and replaced by ${by}` });
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
      store,
      signal,
    }).catch(async (error: unknown) => {
      if (!hasCode(error, 'name-taken')) throw error;
      const now = await lookUp(options);
      if ('done' in now) return isDone(now.serial, now.done);
      throw new UserError(`${name} ${replacement} was published by somebody else in the meantime`, {
        where: tree.where,
        next: 'run withdraw again',
        cause: error,
      });
    });
    return { ...result, version: 'version' in result ? result.version : replacement };
  });
}
