import { UsageError, type OriginKind } from '@flatcar/core/engine';
import type { Index } from './schema.ts';

/** Whose components' origins a publisher accepts: those that definitions prefer, or these kinds. */
export type DeclaredOrigins = Index['origins'];

/** What can be declared; files of the repository itself are accepted everywhere. */
const KINDS: readonly OriginKind[] = ['upstream', 'go', 'cargo', 'source', 'debian'];

/**
 * Origins as `--origins` lists them, sorted and each once. Throws a UsageError for an empty list and for what is not a kind of origin: a tree
 * keeps for ever what it declares.
 */
export function parseOrigins(words: DeclaredOrigins): DeclaredOrigins {
  if (words === 'preferred') return words;
  const kinds = [...new Set(words.map((word) => word.trim()).filter((word) => word !== ''))].toSorted();
  const where = '--origins';
  const next = `list kinds of origins: ${KINDS.join(', ')}; or leave the option out for those that definitions prefer`;
  if (kinds.length === 0) throw new UsageError('no origin is listed', { where, next });
  const unknown = kinds.filter((kind) => !(KINDS as readonly string[]).includes(kind));
  if (unknown.length > 0) throw new UsageError(`not a kind of origin: ${unknown.map((kind) => `'${kind}'`).join(', ')}`, { where, next });
  return kinds;
}

/** True where two declarations accept the same, in whatever order they list it. */
export function sameOrigins(one: DeclaredOrigins, other: DeclaredOrigins): boolean {
  if (one === 'preferred' || other === 'preferred') return one === other;
  return new Set(one).symmetricDifference(new Set(other)).size === 0;
}

/** The text of a declaration, as `--origins` takes it. */
export const originsText = (origins: DeclaredOrigins): string => (origins === 'preferred' ? origins : origins.join(','));
