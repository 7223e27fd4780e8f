import { glob, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError, writeAtomic } from '@flatcar/core';
import * as v from 'valibot';

const OutcomeSchema = v.strictObject({
  step: v.picklist(['build', 'bind', 'publish', 'update']),
  extension: v.string(),
  /** Architecture and versions, where there are any. */
  what: v.string(),
  ok: v.boolean(),
  /** The end of what the command said, when it failed. */
  error: v.optional(v.string()),
});

/** How one step of a workflow went for one extension. */
export type Outcome = v.InferOutput<typeof OutcomeSchema>;

/** Writes an outcome into a folder that a later job collects. */
export async function writeOutcome(dir: string, outcome: Outcome): Promise<void> {
  await mkdir(dir, { recursive: true });
  const name = [outcome.step, outcome.extension, outcome.what].filter((part) => part !== '').join('-');
  await writeAtomic(join(dir, `${name.replaceAll(/[^0-9A-Za-z.-]+/g, '_').slice(0, 120)}.outcome.json`), `${JSON.stringify(outcome)}\n`);
}

/** Reads all outcomes below a folder, sorted by their files. */
export async function readOutcomes(dir: string): Promise<Outcome[]> {
  const files = (await Array.fromAsync(glob('**/*.outcome.json', { cwd: dir }))).toSorted();
  return Promise.all(
    files.map(async (name) => {
      const where = join(dir, name);
      try {
        return v.parse(OutcomeSchema, JSON.parse(await readFile(where, 'utf8')));
      } catch (cause) {
        throw new UserError('this is no outcome of a step', { where, cause });
      }
    }),
  );
}
