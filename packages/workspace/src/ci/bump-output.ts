import * as v from 'valibot';
import { parseJson } from '@flatcar/core/engine';

const Versions = v.object({ component: v.string(), before: v.string(), after: v.string() });

/** The part of the output of `bump --json` that pull requests show, for one version. */
const BumpedSchema = v.object({
  extension: v.string(),
  from: v.optional(v.string()),
  version: v.string(),
  pinned: v.object({
    revision: v.number(),
    lines: v.array(v.object({ component: v.string(), locator: v.string(), change: v.string(), proof: v.string() })),
  }),
  proofs: v.array(v.object({ component: v.string(), origin: v.string(), before: v.array(v.string()), after: v.array(v.string()) })),
  changes: v.array(v.string()),
  dropped: v.array(v.string()),
  difference: v.optional(
    v.object({
      versions: v.array(Versions),
      files: v.array(
        v.object({
          what: v.picklist(['added', 'removed', 'changed']),
          path: v.string(),
          modes: v.optional(v.object({ before: v.string(), after: v.string() })),
        }),
      ),
      requirements: v.array(v.object({ what: v.string(), before: v.string(), after: v.string() })),
    }),
  ),
  noDifference: v.optional(v.string()),
});
export type Bumped = v.InferOutput<typeof BumpedSchema>;

/** Parses the output of `bump --json`. */
export function readBumped(stdout: string): Bumped[] {
  return parseJson(v.array(BumpedSchema), stdout, { what: 'output of bump --json', where: 'standard output' });
}
