import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { attempt, withoutKeys } from './attempt.ts';
import type { Job } from './job.ts';
import { checkedPayloads } from './claims.ts';

/** What binding the jobs of a matrix takes. */
export interface BindFlags {
  /** Folder with an artifact for each job that built. */
  readonly built: string;
  readonly published?: string;
  readonly keyring?: string;
}

/** Binding takes seconds: what takes longer hangs, and must not hold back other extensions. */
const LIMIT = 30 * 60_000;

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
    // It reads what another job made: it is given the key of disk images, and no other.
    return attempt(['bind', ...payloads.map(({ record }) => record), ...common], signal, { env: withoutKeys(), limit: LIMIT });
  }
  const { published = '', keyring = '' } = flags;
  if (published === '') return 'its payload is published, and --published does not specify where';
  const trust = keyring === '' ? [] : ['--keyring', keyring];
  const what = ['bind', ...versions.split(' '), '--published', published, '--arch', architecture];
  return attempt([...what, ...trust, ...common], signal, { limit: LIMIT });
}

/** Removes what was bound of an extension: images of an earlier run are not this one's, and the next extension needs the room. */
export async function removeImages(out: string, extension: string): Promise<void> {
  await rm(join(out, extension), { recursive: true, force: true });
}
