import { join } from 'node:path';
import { allComponents, COMPILING_ORIGINS, loadExtension, type LoadedExtension } from '@flatcar/core/engine';
import { REPOSITORY } from '../select.ts';
import { secondId, versionsOf, type Job } from './job.ts';

/** Whether a compiler makes any of a version's files, by the origins that the definition prefers. */
async function isCompiled(loaded: LoadedExtension, version: string): Promise<boolean> {
  if (loaded.pins[version] === undefined) return false; // its build says so
  const { components } = await allComponents(loaded, version);
  return components.some(({ component: { origins } }) => origins[0] !== undefined && COMPILING_ORIGINS.has(origins[0].kind));
}

/**
 * Gives each job that compiles a second builder beside it, which makes the same payloads on another machine: what a compiler ran (build.rs,
 * configure, a Makefile) can change the bytes, and no digest of upstream's tells. With `off` it is recorded that nobody compared.
 * Jobs that pack only what upstream published, by its pinned digest, stay as they are.
 */
export async function withSecondBuilders(jobs: readonly Job[], off: boolean): Promise<Job[]> {
  const loaded = new Map<string, Promise<LoadedExtension>>();
  const paired = await Promise.all(
    jobs.map(async (job): Promise<Job[]> => {
      if (job.from !== 'build') return [job];
      const extension = loaded.get(job.extension) ?? loadExtension(join(REPOSITORY, 'extensions', job.extension));
      loaded.set(job.extension, extension);
      const compiled = await Promise.all(versionsOf(job).map(async (version) => isCompiled(await extension, version)));
      if (!compiled.includes(true)) return [job];
      if (off) return [{ ...job, second: 'off' }];
      return [
        { ...job, second: 'compared' },
        { ...job, id: secondId(job.id), checks: job.id },
      ];
    }),
  );
  return paired.flat();
}
