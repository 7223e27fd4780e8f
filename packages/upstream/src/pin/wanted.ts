import { ARCHES, locatorOf, type Arch, type Component, type Origin } from '@flatcar/core/engine';
import type { Lock } from './lock.ts';

/** One set of bytes that one or several components of a lock come from. */
export interface Wanted {
  readonly locator: string;
  readonly lock: Lock;
  readonly component: Component;
  readonly origin: Origin;
  readonly arch: Arch;
  /** The main packages that all components together build from a Go module. */
  readonly packages: readonly string[];
}

/** All bytes that a lock's components can come from, in the order of the definition. */
export function wantedOf(lock: Lock): Wanted[] {
  const wanted = new Map<string, Wanted>();
  for (const component of lock.components) {
    for (const origin of component.origins) {
      for (const arch of ARCHES) {
        const locator = locatorOf(origin, component, arch);
        if (locator === undefined) continue;
        const packages = origin.kind === 'go' ? origin.packages : [];
        const known = wanted.get(locator);
        wanted.set(locator, {
          ...(known ?? { locator, lock, component, origin, arch }),
          packages: [...new Set([...(known?.packages ?? []), ...packages])],
        });
      }
    }
  }
  return [...wanted.values()];
}
