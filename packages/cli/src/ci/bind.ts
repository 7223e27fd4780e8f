import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { attempt } from './attempt.ts';
import type { Job } from './job.ts';
import { checkedPayloads } from './claims.ts';

/** What binding the jobs of a matrix takes. */
export interface BindFlags {
  /** Folder with an artifact for each job that built. */
  readonly built: string;
  readonly published?: string;
  readonly keyring?: string;
}

/**
 * Binds what one job asks for into `<out>/<extension>/<target>/`: payloads out of its own artifact, which are checked first, or published
 * ones. Gives why it failed. `keys` are bind's arguments for the key of disk images.
 */
export async function bindJob(
  job: Job,
  flags: BindFlags,
  out: string,
  keys: readonly string[],
  signal: AbortSignal,
): Promise<string | undefined> {
  const { architecture, from, versions, targets } = job;
  const common = ['--release', targets, '--out', out, ...keys];
  if (from === 'build') {
    const payloads = await checkedPayloads(flags.built, job);
    return attempt(['bind', ...payloads.map(({ record }) => record), ...common], signal);
  }
  if (flags.published === undefined) return 'its payload is published, and --published does not specify where';
  const trust = flags.keyring === undefined ? [] : ['--keyring', flags.keyring];
  return attempt(['bind', ...versions.split(' '), '--published', flags.published, '--arch', architecture, ...trust, ...common], signal);
}

/** Removes what was bound of an extension: images of an earlier run are not this one's, and the next extension needs the room. */
export async function removeImages(out: string, extension: string): Promise<void> {
  await rm(join(out, extension), { recursive: true, force: true });
}
