import { UsageError, type OriginKind } from '@flatcar/core/engine';
import type { Index } from './schema.ts';

/** Origins of components that a publisher accepts: those that definitions prefer, or these kinds. */
export type DeclaredOrigins = Index['origins'];

/** Kinds that can be declared; files of the repository are always accepted. */
const KINDS: readonly OriginKind[] = ['upstream', 'go', 'cargo', 'source', 'debian'];

/**
 * Reads the origins of `--origins`: sorted, each once. Throws a UsageError for an empty list and for an unknown kind, because a tree keeps its
 * declaration.
 */
export function parseOrigins(words: DeclaredOrigins): DeclaredOrigins {
  if (words === 'preferred') return words;
  const kinds = [...new Set(words.map((word) => word.trim()).filter((word) => word !== ''))].toSorted();
  const where = '--origins';
  const next = `list kinds of origins: ${KINDS.join(', ')}; or omit the option for those that definitions prefer`;
  if (kinds.length === 0) throw new UsageError('no origin is listed', { where, next });
  const unknown = kinds.filter((kind) => !(KINDS as readonly string[]).includes(kind));
  if (unknown.length > 0) throw new UsageError(`not a kind of origin: ${unknown.map((kind) => `'${kind}'`).join(', ')}`, { where, next });
  return kinds;
}

/** True if two declarations accept the same origins, in any order. */
export function sameOrigins(one: DeclaredOrigins, other: DeclaredOrigins): boolean {
  if (one === 'preferred' || other === 'preferred') return one === other;
  return new Set(one).symmetricDifference(new Set(other)).size === 0;
}

/** The text of a declaration, as `--origins` takes it. */
export const originsText = (origins: DeclaredOrigins): string => (origins === 'preferred' ? origins : origins.join(','));
