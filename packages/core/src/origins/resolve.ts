import { ARCHES } from '../model/arch.ts';
import { SOURCE_ORIGINS } from './origin.ts';
import type { Component, Origin, PinnedComponent } from '../definition/types.ts';
import { UnreachableError } from '../http/errors.ts';
import { UserError, UserErrors } from '../util/errors.ts';
import { buildCargo, cargoLocator, describeCargo } from './cargo.ts';
import { buildDebian, describeDebian } from './debian/debian.ts';
import { isPackageLocator } from '../model/locator.ts';
import { buildFiles, describeFiles } from './files.ts';
import { describeGo, goLocator } from './go.ts';
import { GoPrograms } from './go-build.ts';
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

/** The files of an origin, or a function that compiles them. */
type Made = OriginResult | ((signal: AbortSignal) => Promise<OriginResult>);

/** Makes the files of an origin, but compiles nothing. */
async function make(origin: Origin, context: OriginContext, programs: GoPrograms): Promise<Made> {
  switch (origin.kind) {
    case 'upstream':
      return buildUpstream(origin, context);
    case 'go':
      return programs.add(origin, context);
    case 'cargo':
      return (signal) => buildCargo(origin, { ...context, signal });
    case 'debian':
      return buildDebian(origin, context);
    case 'source':
      return (signal) => buildSource(origin, { ...context, signal });
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

/** The reason to stop compiling: another component failed. */
const GIVEN_UP = new Error('given up: another component failed');

/** Waits for all jobs. Throws all their errors together, without those of jobs that were given up. */
async function allOrThrow<T>(jobs: readonly Promise<T>[], signal: AbortSignal | undefined): Promise<T[]> {
  const settled = await Promise.allSettled(jobs);
  signal?.throwIfAborted();
  const errors = settled.flatMap((one) => (one.status === 'rejected' && one.reason !== GIVEN_UP ? [one.reason as unknown] : []));
  const [first] = errors;
  if (errors.length === 1 || errors.some((error) => !(error instanceof UserError))) throw first;
  if (errors.length > 1) throw new UserErrors(`${errors.length} components could not be made`, errors as UserError[]);
  return settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
}

/** A component whose origin is chosen, and whose files may have to be compiled. */
type ChosenComponent = Omit<ResolvedComponent, 'result'> & { readonly made: Made };

/** Compiles what is left to compile. One failure ends all others. */
async function compileAll(chosen: readonly ChosenComponent[], signal: AbortSignal | undefined): Promise<ResolvedComponent[]> {
  const failed = new AbortController();
  const stop = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal]);
  const compile = async ({ made, ...about }: ChosenComponent): Promise<ResolvedComponent> => {
    try {
      return { ...about, result: typeof made === 'function' ? await made(stop) : made };
    } catch (error) {
      if (failed.signal.aborted) throw GIVEN_UP;
      failed.abort(GIVEN_UP);
      throw error;
    }
  };
  return allOrThrow(chosen.map(compile), signal);
}

/**
 * Makes the files of all components: first what is downloaded, side by side, then what is compiled, so that nothing is compiled for a build that has
 * failed. Throws all errors together. `choice` is that of chooseOrigin, or the kind of each component's origin in their order.
 */
export async function resolveComponents(
  components: readonly PinnedComponent[],
  context: Omit<OriginContext, keyof PinnedComponent>,
  choice: OriginChoice | readonly OriginKind[],
): Promise<ResolvedComponent[]> {
  const programs = new GoPrograms();
  const chosen = components.map((pinned, index) =>
    chooseOrigin({ ...context, ...pinned }, typeof choice === 'string' ? choice : { kind: choice[index] }, programs),
  );
  return compileAll(await allOrThrow(chosen, context.signal), context.signal);
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
 * Chooses a component's origin, and makes its files unless they are compiled. `upstream` takes the first origin of the definition; `source` the first
 * that is not upstream's own file; `auto` is `upstream`, with a source origin when upstream's host cannot be reached: a wrong digest or a missing file
 * never falls back. A kind takes the origin of that kind, or fails.
 */
async function chooseOrigin(
  context: OriginContext,
  choice: OriginChoice | { readonly kind: OriginKind | undefined },
  programs: GoPrograms,
): Promise<ChosenComponent> {
  const { component, dir, pin } = context;
  const [first] = component.origins;
  if (first === undefined) throw new UserError(`component '${component.name}' has no origin`, { where: dir });
  const makeFrom = async (origin: Origin): Promise<ChosenComponent> => ({
    component,
    dir,
    pin,
    origin,
    made: await make(origin, context, programs),
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
