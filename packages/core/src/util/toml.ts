import { parse, TomlError, type TomlTable } from 'smol-toml';
import { UserError } from './errors.ts';

/** Reads a TOML document (toml.io/en/v1.0.0). Throws a UserError with file and line if it is not one. */
export function parseToml(text: string, { what, where, next }: { what: string; where: string; next?: string }): TomlTable {
  try {
    return parse(text);
  } catch (cause) {
    // Anything else is nesting that is too deep for the parser.
    const line = cause instanceof TomlError ? `:${cause.line}` : '';
    const [problem = ''] = cause instanceof Error ? cause.message.split('\n') : [];
    throw new UserError(`invalid ${what}: ${problem}`, { where: `${where}${line}`, next, cause });
  }
}
