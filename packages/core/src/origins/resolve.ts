import { ARCHES } from '../model/arch.ts';
import { SOURCE_ORIGINS } from './origin.ts';
import type { Component, Origin, PinnedComponent } from '../definition/types.ts';
import { UnreachableError } from '../http/errors.ts';
import { UserError, UserErrors } from '../util/errors.ts';
import { buildCargo, cargoLocator, describeCargo } from './cargo.ts';
import { buildDebian, describeDebian, isPackageLocator } from './debian/debian.ts';
import { buildFiles, describeFiles } from './files.ts';
import { buildGo, describeGo, goLocator } from './go.ts';
import type { DescribeContext, OriginContext, OriginDescription, OriginResult } from './origin.ts';
import { buildRelease, describeRelease, releaseLocator } from './upstream.ts';
import { buildSource, describeSource, sourceLocator } from './source.ts';
import type { Arch } from '../model/arch.ts';
import type { OriginChoice, OriginKind } from '../model/payload.ts';

/** A component with the origin that it was made from, and its files. */
export interface ResolvedComponent extends PinnedComponent {
  readonly origin: Origin;
  readonly result: OriginResult;
  /** True when the origin is the one that the definition prefers. */
  readonly preferred: boolean;
}

const describe = (component: Component): string => `${component.name} ${component.version}`;

async function make(origin: Origin, context: OriginContext): Promise<OriginResult> {
  switch (origin.kind) {
    case 'release':
      return buildRelease(origin, context);
    case 'go':
      return buildGo(origin, context);
    case 'cargo':
      return buildCargo(origin, context);
    case 'debian':
      return buildDebian(origin, context);
    case 'source':
      return buildSource(origin, context);
    case 'files':
      return buildFiles(origin, context);
  }
}

/** What an origin's bytes are made of; nothing is fetched, built or run. */
export function describeOrigin(origin: Origin, context: DescribeContext): Promise<OriginDescription> {
  switch (origin.kind) {
    case 'release':
      return describeRelease(origin, context);
    case 'go':
      return describeGo(origin, context);
    case 'cargo':
      return describeCargo(origin, context);
    case 'debian':
      return describeDebian(origin, context);
    case 'source':
      return describeSource(origin, context);
    case 'files':
      return describeFiles(origin, context);
  }
}

/** A component with the origin that it is made from, and what it is made of. */
export interface DescribedComponent extends PinnedComponent {
  readonly origin: Origin;
  readonly description: OriginDescription;
  /** True when the origin is the one that the definition prefers. */
  readonly preferred: boolean;
}

/**
 * What components are made of, by the origins of the given kinds (one for each, in their order) where their definitions have one, else by those
 * that they prefer. Nothing is fetched, built or run.
 */
export async function describeComponents(
  components: readonly PinnedComponent[],
  context: Omit<DescribeContext, keyof PinnedComponent>,
  kinds: readonly OriginKind[] = [],
): Promise<DescribedComponent[]> {
  return Promise.all(
    components.map(async (pinned, index) => {
      const { name, origins } = pinned.component;
      const [first] = origins;
      const origin = origins.find(({ kind }) => kind === kinds[index]) ?? first;
      if (origin === undefined) throw new UserError(`component '${name}' has no origin`, { where: pinned.dir });
      return { ...pinned, origin, description: await describeOrigin(origin, { ...context, ...pinned }), preferred: origin === first };
    }),
  );
}

/** Why nothing is compiled any more: another component cannot be had. */
const GIVEN_UP = new Error('given up: another component failed');

/** Compiles until `failed`, and then throws GIVEN_UP. */
async function compile(origin: Origin, context: OriginContext, failed: AbortSignal): Promise<OriginResult> {
  const signal = context.signal === undefined ? failed : AbortSignal.any([context.signal, failed]);
  return make(origin, { ...context, signal }).catch((error: unknown) => {
    throw failed.aborted ? GIVEN_UP : error;
  });
}

/** The key that an origin's bytes have in pins.json; undefined for what has none of its own. */
export function locatorOf(origin: Origin, component: Component, arch: Arch): string | undefined {
  switch (origin.kind) {
    case 'release':
      return releaseLocator(origin, component, arch);
    case 'go':
      return goLocator(origin, component);
    case 'cargo':
      return cargoLocator(origin, component);
    case 'source':
      return sourceLocator(origin, component);
    case 'debian': // one for each package: origins/debian.ts
    case 'files':
      return undefined;
  }
}

/** All keys that an origin's bytes have in a lock's entry, of both architectures; of packages those that were found when it was pinned. */
export function locatorsOf(origin: Origin, { component, pin }: Pick<PinnedComponent, 'component' | 'pin'>): string[] {
  if (origin.kind === 'debian') return Object.keys(pin.bytes).filter(isPackageLocator);
  return [...new Set(ARCHES.flatMap((arch) => locatorOf(origin, component, arch) ?? []))];
}

/** True when a lock pins what an origin needs for an architecture, or when it needs nothing from outside. */
export function hasPins(origin: Origin, { component, pin }: Pick<PinnedComponent, 'component' | 'pin'>, arch: Arch): boolean {
  if (origin.kind === 'debian') return Object.keys(pin.bytes).some(isPackageLocator);
  const locator = locatorOf(origin, component, arch);
  return locator === undefined || pin.bytes[locator] !== undefined;
}

function sourceOf(component: Component): Origin | undefined {
  return component.origins.find(({ kind }) => SOURCE_ORIGINS.has(kind));
}

/**
 * Makes the files of all components, downloads side by side. All errors are shown together; nothing is compiled for a
 * build that has failed. See resolveComponent for what `choice` means; a list has the kind of each component's origin, in their order.
 */
export async function resolveComponents(
  components: readonly PinnedComponent[],
  context: Omit<OriginContext, keyof PinnedComponent>,
  choice: OriginChoice | readonly OriginKind[],
): Promise<ResolvedComponent[]> {
  const failed = new AbortController();
  const settled = await Promise.allSettled(
    components.map((pinned, index) =>
      resolveComponent({ ...context, ...pinned }, typeof choice === 'string' ? choice : { kind: choice[index] }, failed.signal).catch(
        (error: unknown) => {
          failed.abort(GIVEN_UP);
          throw error;
        },
      ),
    ),
  );
  context.signal?.throwIfAborted();
  const errors = settled.flatMap((one) => (one.status === 'rejected' && one.reason !== GIVEN_UP ? [one.reason as unknown] : []));
  const [first] = errors;
  if (errors.length === 1 || errors.some((error) => !(error instanceof UserError))) throw first;
  if (errors.length > 1) throw new UserErrors(`${errors.length} components could not be made`, errors as UserError[]);
  return settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
}

/**
 * Makes a component's files from one origin.
 * `release` takes the origin that the definition prefers; `source` the first that compiles; `auto` is `release`,
 * and a source origin only when upstream's host cannot be reached. Neither a wrong digest nor a missing file ever falls back.
 * A kind takes the origin of that kind, or fails. Compiling ends when `failed` does.
 */
async function resolveComponent(
  context: OriginContext,
  choice: OriginChoice | { readonly kind: OriginKind | undefined },
  failed: AbortSignal,
): Promise<ResolvedComponent> {
  const { component, dir, pin, report } = context;
  const [first] = component.origins;
  if (first === undefined) throw new UserError(`component '${component.name}' has no origin`, { where: dir });
  const source = sourceOf(component);
  const done = async (origin: Origin): Promise<ResolvedComponent> => ({
    component,
    dir,
    pin,
    origin,
    result: SOURCE_ORIGINS.has(origin.kind) ? await compile(origin, context, failed) : await make(origin, context),
    preferred: origin === first,
  });

  if (typeof choice !== 'string') {
    const origin = component.origins.find(({ kind }) => kind === choice.kind);
    if (origin !== undefined) return done(origin);
    const kinds = component.origins.map(({ kind }) => kind).join(', ');
    throw new UserError(`${describe(component)} has no origin of the kind '${choice.kind ?? ''}': its definition has ${kinds}`, {
      where: dir,
    });
  }
  if (choice === 'source') {
    if (first.kind === 'files') return done(first);
    if (source === undefined) {
      throw new UserError(
        `${describe(component)} cannot be built from source: ${component.noSource ?? 'its definition has no source origin'}`,
        {
          where: dir,
          next: 'use --origin release',
        },
      );
    }
    return done(source);
  }
  try {
    return await done(first);
  } catch (error) {
    if (choice !== 'auto' || source === first || !(error instanceof UnreachableError)) throw error;
    if (source === undefined)
      throw new UserError(
        `${describe(component)}: ${error.message}, and it cannot be built from source${component.noSource === undefined ? '' : `: ${component.noSource}`}`,
        {
          ...(error.where === undefined ? {} : { where: error.where }),
          next: `${error.next ?? 'check the network'}; or build the others alone (--only)`,
          cause: error,
        },
      );
    report({
      type: 'notice',
      text: `${describe(component)}: ${error.message}; BUILDING FROM SOURCE (${source.kind}) INSTEAD. This image is not for publishing; --origin release forbids the fallback.`,
    });
    return done(source);
  }
}
