import { allOf, isLicense, newestFirst, UserError, type Component, type DebianOrigin } from '@flatcar/core/engine';
import { memoize, type UpstreamContext } from '../context.ts';
import { licenseOf } from '../sources/github.ts';
import type { Lock } from './lock.ts';
import { packagesNow } from './packages.ts';
import type { PinRequest } from './request.ts';

/** The licence of each component of a lock: as given, as pinned before, or as upstream publishes it. Throws a UserError for an unknown one. */
export async function licenses(lock: Lock, request: PinRequest, context: UpstreamContext): Promise<Record<string, string>> {
  const pinned = [lock.version, ...newestFirst(Object.keys(lock.pins))].map((version) => lock.pins[version]?.licenses ?? {});
  const entries = lock.components.map(async (component): Promise<[string, string]> => {
    const { name } = component;
    const given = request.licenses?.[name];
    if (given !== undefined && !isLicense(given))
      throw new UserError(`'${given}' is not a valid SPDX expression: the licence of ${name}`, {
        next: 'see https://spdx.org/licenses; a licence that SPDX does not list is LicenseRef-NAME',
      });
    const known = given ?? pinned.find((one) => one[name] !== undefined)?.[name];
    if (known !== undefined) return [name, known];
    const { expression, hint } = await guessLicense(component, context);
    if (expression !== undefined) return [name, expression];
    if (request.askLicense !== undefined) return [name, await request.askLicense(name, hint)];
    throw new UserError(`the licence of ${name} is unknown${hint === undefined ? '' : `: ${hint}`}`, {
      where: lock.text === undefined ? undefined : lock.file,
      next: `pass --license ${name}=SPDX-EXPRESSION`,
    });
  });
  return Object.fromEntries(await Promise.all(entries));
}

/** A licence as upstream publishes it: an SPDX expression, or a hint that helps a person to find it. */
interface LicenseGuess {
  readonly expression?: string | undefined;
  readonly hint?: string;
}

/** The project at GitHub that a component's files are published by. */
function githubProject({ origins }: Component): string | undefined {
  const projects = origins.flatMap((origin) =>
    origin.kind === 'upstream' ? (/^https:\/\/github\.com\/([^/]+\/[^/]+)\//.exec(origin.url)?.[1] ?? []) : [],
  );
  return projects[0];
}

async function guessLicense(component: Component, context: UpstreamContext): Promise<LicenseGuess> {
  const packaged = component.origins.find((one) => one.kind === 'debian');
  if (packaged !== undefined) return licenseOfPackages(packaged, component, context);
  const project = githubProject(component);
  if (project === undefined) return {};
  return { expression: await memoize(context, `license ${project}`, () => licenseOf(project, context)) };
}

/** The licences of the packages that a definition names, if their copyright files are machine-readable. */
async function licenseOfPackages(origin: DebianOrigin, component: Component, context: UpstreamContext): Promise<LicenseGuess> {
  const { licenses: found, unclear } = await packagesNow(origin, component, 'x86-64', context);
  const expression = allOf(found);
  if (expression !== undefined) return { expression };
  const file = `usr/share/doc/${origin.packages[0] ?? ''}/copyright of the package`;
  return { hint: unclear.length === 0 ? `read ${file}` : `${file} names ${unclear.join(', ')}, and is not fully machine-readable` };
}
