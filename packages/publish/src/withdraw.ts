import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  bindTargets, catalogue, digestOf, imageVersion, nearest, openTools, selectTargets, UserError, type Report, type SignKeys, type Store, type Target,
} from '@flatcar/core'; // prettier-ignore
import type { Destination } from './destination.ts';
import type { PublishKeys } from './keys.ts';
import { publish, type PublishResult } from './publish.ts';
import { restorePayload } from './restore.ts';
import { readPublished } from './state.ts';
import type { Tree } from './tree.ts';

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
  readonly store: Store;
  readonly report: Report;
  readonly signal?: AbortSignal;
}

/** A target by its name, also when its release has left the catalogue: nodes on it are to be helped, too. */
function targetOf(name: string, format: 'squashfs' | 'ddi'): Target {
  if (name === 'portable') return name;
  if (catalogue().some(({ number }) => number === name)) return selectTargets(name)[0] ?? 'portable';
  const like = nearest(name);
  if (like === undefined) throw new UserError(`nothing is known of Flatcar ${name}`);
  return { ...like, number: name, format, arches: ['x86-64', 'arm64'] };
}

/**
 * Withdraws a version: nodes stay on what they have when a version merely disappears, so a higher revision of it is published that has the
 * content of another version, for every target. The bad version leaves all sums and is marked in the index.
 */
export async function withdraw(options: WithdrawOptions): Promise<PublishResult & { version: string }> {
  const { name, version, content, reason, tree, destination, keys, store, report, signal, sign } = options;
  const index = await (await readPublished(tree, keys.trusted)).extension(name);
  const bad = index?.versions.find((one) => one.version === version);
  const good = index?.versions.find((one) => one.version === content);
  if (index === undefined || bad === undefined) throw new UserError(`${name} ${version} is not published`, { where: tree.where });
  if (bad.withdrawn !== undefined)
    throw new UserError(`${name} ${version} is withdrawn already, ${bad.withdrawn.by} took its place`, { where: tree.where });
  if (good === undefined || good === bad || good.withdrawn !== undefined || good.images.length === 0)
    throw new UserError(`${name} ${content} cannot take its place`, {
      where: tree.where,
      next: `published: ${index.versions.filter((one) => one !== bad && one.withdrawn === undefined && one.images.length > 0).map((one) => one.version).join(', ')}`, // prettier-ignore
    });
  const revision = Math.max(...index.versions.filter(({ upstream }) => upstream === bad.upstream).map((one) => one.revision)) + 1;
  const replacement = imageVersion(bad.upstream, revision);
  return store.withTemp(async (temp) => {
    const out = join(temp, name);
    await mkdir(join(out, 'payload'), { recursive: true });
    for (const slot of Object.keys(good.payloads).toSorted()) {
      signal?.throwIfAborted();
      const of = good.images.filter(({ architecture, format }) => `${architecture} ${format}` === slot);
      const [first] = of;
      if (first === undefined) continue;
      const { architecture: arch, format } = first;
      const { payload: before, file } = await restorePayload(tree, index, { version: content, arch, format }, temp);
      const key = digestOf({ step: 'withdraw', from: before.key, version: replacement });
      const payload = { ...before, key, version: replacement, upstream: bad.upstream, revision };
      const targets = of.map(({ target }) => targetOf(target, format));
      await bindTargets(payload, file, targets, {
        out,
        store,
        tools: openTools(store, report),
        report,
        ...(sign === undefined ? {} : { sign }),
      });
      await writeFile(join(out, 'payload', `${key}.payload.json`), JSON.stringify(payload));
    }
    const result = await publish({
      paths: [out],
      destination,
      keys,
      report,
      withdraw: { name, version, reason, by: replacement },
      ...(signal === undefined ? {} : { signal }),
    });
    return { ...result, version: replacement };
  });
}
