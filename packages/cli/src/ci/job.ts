import { messageOf, UserError } from '@flatcar/core';
import * as v from 'valibot';

/** One job of `flatcar-ext plan --matrix`. */
export const JobSchema = v.strictObject({
  extension: v.pipe(v.string(), v.regex(/^[a-z][a-z0-9-]*$/)),
  architecture: v.string(),
  from: v.picklist(['build', 'published']),
  // Arguments of commands: none begins with a dash.
  versions: v.pipe(v.string(), v.regex(/^[0-9a-z][0-9A-Za-z@.+-]*(?: [0-9a-z][0-9A-Za-z@.+-]*)*$/)),
  targets: v.string(),
});
export type Job = v.InferOutput<typeof JobSchema>;
export const MatrixSchema = v.strictObject({ include: v.array(JobSchema) });

/** Reads what `flatcar-ext plan --matrix` printed, or one job of it; `what` names it in the error. */
export function parseJson<T extends v.GenericSchema>(schema: T, text: string, what: string): v.InferOutput<T> {
  try {
    return v.parse(schema, JSON.parse(text));
  } catch (cause) {
    throw new UserError(`${what} is not what flatcar-ext plan --matrix prints: ${messageOf(cause)}`, { cause });
  }
}
