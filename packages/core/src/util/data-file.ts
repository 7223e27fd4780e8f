import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import type * as v from 'valibot';
import { parseJson } from './json.ts';

/** Reads a data file of this repository. Throws a UserError for one that does not match the schema. */
export function readDataFile<S extends v.GenericSchema>(schema: S, url: URL): v.InferOutput<S> {
  const where = fileURLToPath(url);
  return parseJson(schema, readFileSync(where, 'utf8'), { what: basename(where), where, next: 'restore it from git' });
}
