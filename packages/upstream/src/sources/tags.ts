/** A tag of an upstream, or a name on its index page. */
export interface Tag {
  readonly name: string;
  /** When it was published, as upstream writes it (ISO 8601); undefined if upstream does not list it. */
  readonly date?: string | undefined;
}

/** A version that an upstream lists. */
export interface Listed {
  readonly version: string;
  /** When it was published, as upstream writes it (ISO 8601); undefined if upstream does not list it. */
  readonly date?: string | undefined;
}

/** The versions in tags: whatever follows the prefix, plain version or not. */
export function versionsInTags(tags: readonly Tag[], prefix = 'v'): Listed[] {
  return tags.filter(({ name }) => name.startsWith(prefix)).map(({ name, date }) => ({ version: name.slice(prefix.length), date }));
}

/** The versions in names without dates. */
export const versionsInNames = (names: readonly string[], prefix = 'v'): Listed[] =>
  versionsInTags(
    names.map((name) => ({ name })),
    prefix,
  );
