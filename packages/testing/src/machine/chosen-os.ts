import { parseJson } from '@flatcar/core/engine';
import * as v from 'valibot';

const MachinesSchema = v.object({ os: v.optional(v.string()) });

/** The operating system that machines boot, from `flatcar-ext test --os`: `stand-in`, `flatcar` or the path of an image. */
export function chosenOs(): string {
  const where = 'FLATCAR_EXT_MACHINES';
  return parseJson(MachinesSchema, process.env[where] ?? '{}', { what: 'choice of machines', where }).os ?? 'stand-in';
}

/** Skips a test unless machines boot a stand-in. */
export const standInOnly =
  (why: string) =>
  async (skip: (why: string) => never): Promise<void> => {
    if (chosenOs() !== 'stand-in') skip(why);
  };
