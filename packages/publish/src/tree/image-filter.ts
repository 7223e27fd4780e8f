import { UserError, type Arch } from '@flatcar/core/engine';
import type { Index } from './schema.ts';

/** Which images of a tree to copy; undefined means all. */
export interface ImageFilter {
  readonly extensions?: readonly string[];
  /** `portable` and release numbers. */
  readonly targets?: readonly string[];
  readonly arches?: readonly Arch[];
}

/** Names of the selected extensions. Throws for a name that is not published. */
export function selectedNames({ extensions }: ImageFilter, index: Index, where: string): readonly string[] {
  const published = index.extensions.map(({ name }) => name);
  const unknown = extensions?.find((name) => !published.includes(name));
  if (unknown !== undefined)
    throw new UserError(`'${unknown}' is not published here`, { where, next: `published extensions: ${published.join(', ')}` });
  return extensions ?? published;
}

/** True for a selected image. */
export const isSelected = (
  { targets, arches }: ImageFilter,
  { target, architecture }: { readonly target: string; readonly architecture: Arch },
): boolean => targets?.includes(target) !== false && arches?.includes(architecture) !== false;
