import { ARCHES } from '../model/arch.ts';
import { SOURCE_ORIGINS } from './origin.ts';
import type { Component, Origin, PinnedComponent } from '../definition/types.ts';
import { UnreachableError } from '../http/errors.ts';
import { UserError, UserErrors } from '../util/errors.ts';
import { buildCargo, cargoLocator, describeCargo } from './cargo.ts';
import { buildDebian, describeDebian } from './debian/debian.ts';
import { isPackageLocator } from '../model/locator.ts';
import { buildFiles, describeFiles } from './files.ts';
import { buildGo, describeGo, goLocator } from './go.ts';
import type { DescribeContext, OriginContext, OriginDescription, OriginResult } from './origin.ts';
import { buildUpstream, describeUpstream, upstreamLocator } from './upstream.ts';
import { buildSource, describeSource, sourceLocator } from './source.ts';
import type { Arch } from '../model/arch.ts';
import type { OriginChoice, OriginKind } from '../model/payload.ts';

/** A component with the origin that was chosen for it, and its files. */
export interface ResolvedComponent extends PinnedComponent {
  readonly origin: Origin;
  readonly result: OriginResult;
  /** True if the origin is the first of the definition. */
  readonly preferred: boolean;
}

const describe = (component: Component): string => `${component.name} ${component.version}`;

async function make(origin: Origin, context: OriginContext): Promise<OriginResult> {
  switch (origin.kind) {
    case 'upstream':
      return buildUpstream(origin, context);
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

/** The inputs of an origin. Fetches, builds and runs nothing. */
export function describeOrigin(origin: Origin, context: DescribeContext): Promise<OriginDescription> {
  switch (origin.kind) {
    case 'upstream':
      return describeUpstream(origin, context);
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

/** A component with the origin that was chosen for it, and its inputs. */
export interface DescribedComponent extends PinnedComponent {
  readonly origin: Origin;
  readonly description: OriginDescription;
  /** True if the origin is the first of the definition. */
  readonly preferred: boolean;
}

/**
 * The inputs of components. `kinds` has the kind of each component's origin, in their order; a component without an origin of that kind takes the
 * first of its definition. Fetches, builds and runs nothing.
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

/** The reason to stop compiling: another component failed. */
const GIVEN_UP = new Error('given up: another component failed');

/** Compiles; throws GIVEN_UP when `failed` is aborted. */
async function compile(origin: Origin, context: OriginContext, failed: AbortSignal): Promise<OriginResult> {
  const signal = context.signal === undefined ? failed : AbortSignal.any([context.signal, failed]);
  return make(origin, { ...context, signal }).catch((error: unknown) => {
    throw failed.aborted ? GIVEN_UP : error;
  });
}

/** The key of an origin in pins.json; undefined for packages, which have a key each, and for files of this repository. */
export function locatorOf(origin: Origin, component: Component, arch: Arch): string | undefined {
  switch (origin.kind) {
    case 'upstream':
      return upstreamLocator(origin, component, arch);
    case 'go':
      return goLocator(origin, component);
    case 'cargo':
      return cargoLocator(origin, component);
    case 'source':
      return sourceLocator(origin, component);
    case 'debian':
    case 'files':
      return undefined;
  }
}

/** All keys of an origin in an entry of pins.json, for both architectures. */
export function locatorsOf(origin: Origin, { component, pin }: Pick<PinnedComponent, 'component' | 'pin'>): string[] {
  if (origin.kind === 'debian') return Object.keys(pin.bytes).filter(isPackageLocator);
  return [...new Set(ARCHES.flatMap((arch) => locatorOf(origin, component, arch) ?? []))];
}

/** True if the pins have what an origin needs for an architecture. */
export function hasPins(origin: Origin, { component, pin }: Pick<PinnedComponent, 'component' | 'pin'>, arch: Arch): boolean {
  if (origin.kind === 'debian') return Object.keys(pin.bytes).some(isPackageLocator);
  const locator = locatorOf(origin, component, arch);
  return locator === undefined || pin.bytes[locator] !== undefined;
}

function sourceOf(component: Component): Origin | undefined {
  return component.origins.find(({ kind }) => SOURCE_ORIGINS.has(kind));
}

/**
 * Makes the files of all components, downloads side by side. Throws all errors together, and compiles nothing for a build that has failed.
 * `choice` is that of resolveComponent, or the kind of each component's origin in their order.
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

/** The origin of a kind. Throws a UserError if the definition has none. */
function originOfKind({ component, dir }: OriginContext, wanted: OriginKind | undefined): Origin {
  const origin = component.origins.find(({ kind }) => kind === wanted);
  if (origin !== undefined) return origin;
  const kinds = component.origins.map(({ kind }) => kind).join(', ');
  throw new UserError(`${describe(component)} has no origin of the kind '${wanted ?? ''}': its definition has ${kinds}`, { where: dir });
}

/** The origin that `--origin source` takes: the first that does not download upstream's own file. */
function requiredSource({ component, dir }: OriginContext, first: Origin): Origin {
  if (first.kind === 'files') return first;
  const source = sourceOf(component);
  if (source !== undefined) return source;
  throw new UserError(
    `${describe(component)} cannot be built from source: ${component.noSource ?? 'its definition has no source origin'}`,
    { where: dir, next: 'use --origin upstream' },
  );
}

/** The origin to fall back to when upstream's host cannot be reached. Throws if there is none; reports the fallback otherwise. */
function fallbackFor({ component, report }: OriginContext, error: UnreachableError): Origin {
  const source = sourceOf(component);
  const what = `${describe(component)}: ${error.message}`;
  if (source !== undefined) {
    const text = `${what}; BUILDING FROM SOURCE (${source.kind}) INSTEAD. This image is not for publishing; --origin upstream forbids the fallback.`;
    report({ type: 'notice', text });
    return source;
  }
  const why = component.noSource === undefined ? '' : `: ${component.noSource}`;
  throw new UserError(`${what}, and it cannot be built from source${why}`, {
    where: error.where,
    next: `${error.next ?? 'check the network'}; or build the other components alone (--only)`,
    cause: error,
  });
}

/**
 * Makes a component's files from one origin. `release` takes the first origin of the definition; `source` the first that compiles; `auto` is
 * `release`, with a source origin when upstream's host cannot be reached: a wrong digest or a missing file never falls back.
 * A kind takes the origin of that kind, or fails. Compiling ends when `failed` is aborted.
 */
async function resolveComponent(
  context: OriginContext,
  choice: OriginChoice | { readonly kind: OriginKind | undefined },
  failed: AbortSignal,
): Promise<ResolvedComponent> {
  const { component, dir, pin } = context;
  const [first] = component.origins;
  if (first === undefined) throw new UserError(`component '${component.name}' has no origin`, { where: dir });
  const makeFrom = async (origin: Origin): Promise<ResolvedComponent> => ({
    component,
    dir,
    pin,
    origin,
    result: SOURCE_ORIGINS.has(origin.kind) ? await compile(origin, context, failed) : await make(origin, context),
    preferred: origin === first,
  });
  if (typeof choice !== 'string') return makeFrom(originOfKind(context, choice.kind));
  if (choice === 'source') return makeFrom(requiredSource(context, first));
  try {
    return await makeFrom(first);
  } catch (error) {
    if (choice !== 'auto' || sourceOf(component) === first || !(error instanceof UnreachableError)) throw error;
    return makeFrom(fallbackFor(context, error));
  }
}
