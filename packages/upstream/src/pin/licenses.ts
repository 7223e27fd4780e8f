import { isLicense, newestFirst, UserError, type Component, type DebianOrigin } from '@flatcar/core/engine';
import { memoize, type UpstreamContext } from '../context.ts';
import { licenseOf } from '../sources/github.ts';
import type { Lock } from './lock.ts';
import { packagesNow } from './packages.ts';
import type { PinRequest } from './request.ts';

/** The licence of each component of a lock: as said, as pinned before, or as upstream tells it. */
export async function licenses(lock: Lock, request: PinRequest, context: UpstreamContext): Promise<Record<string, string>> {
  const known = [lock.version, ...newestFirst(Object.keys(lock.pins))].map((version) => lock.pins[version]?.licenses ?? {});
  const entries = lock.components.map(async ({ name, origins }): Promise<[string, string]> => {
    const said = request.licenses?.[name];
    if (said !== undefined && !isLicense(said))
      throw new UserError(`'${said}' is no SPDX expression: the licence of ${name}`, {
        next: 'see https://spdx.org/licenses; what SPDX has not is LicenseRef-NAME',
      });
    const given = said ?? known.find((one) => one[name] !== undefined)?.[name];
    if (given !== undefined) return [name, given];
    const repo = origins.map((one) => (one.kind === 'release' ? /^https:\/\/github\.com\/([^/]+\/[^/]+)\//.exec(one.url)?.[1] : undefined)).find((one) => one !== undefined); // prettier-ignore
    const packaged = origins.find((one) => one.kind === 'debian');
    const { expression, hint }: Told =
      packaged !== undefined
        ? await licenseOfPackages(packaged, lock.components.find((one) => one.name === name), context)
        : { expression: repo === undefined ? undefined : await memoize(context, `license ${repo}`, () => licenseOf(repo, context)) }; // prettier-ignore
    if (expression !== undefined) return [name, expression];
    if (request.askLicense !== undefined) return [name, await request.askLicense(name, hint)];
    throw new UserError(`the licence of ${name} is not known${hint === undefined ? '' : `: ${hint}`}`, {
      ...(lock.text === undefined ? {} : { where: lock.file }),
      next: `say it: --license ${name}=SPDX-EXPRESSION`,
    });
  });
  return Object.fromEntries(await Promise.all(entries));
}

/** What an upstream tells of a licence: an SPDX expression, or what helps a person to find it. */
interface Told {
  readonly expression?: string | undefined;
  readonly hint?: string;
}

/** Licences of the packages that a definition names, where their copyright files tell them in a machine's words. */
async function licenseOfPackages(origin: DebianOrigin, component: Component | undefined, context: UpstreamContext): Promise<Told> {
  if (component === undefined) return {};
  const { licenses: found, unclear } = await packagesNow(origin, component, 'x86-64', context);
  const parts = new Set(found.flatMap((one) => one.split(' AND ')));
  if (parts.size > 0) return { expression: [...parts].toSorted().join(' AND ') };
  const file = `usr/share/doc/${origin.packages[0] ?? ''}/copyright of the package`;
  return {
    hint: unclear.length === 0 ? `read ${file}` : `${file} names ${unclear.join(', ')}, and some of it is not for a program to read`,
  };
}
