import { join } from 'node:path';
import { allComponents, COMPILING_ORIGINS, loadExtension, type LoadedExtension } from '@flatcar/core/engine';
import { REPOSITORY } from '../select.ts';
import { secondId, type Job } from './job.ts';

/** Whether a version has compiled files, by the origins that its definition prefers. */
async function isCompiled(loaded: LoadedExtension, version: string): Promise<boolean> {
  if (loaded.pins[version] === undefined) return false; // the build reports it
  const { components } = await allComponents(loaded, version);
  return components.some(({ component: { origins } }) => origins[0] !== undefined && COMPILING_ORIGINS.has(origins[0].kind));
}

/**
 * Adds a second builder to each job that compiles, which builds the same payloads on another machine: code that runs during compilation
 * (build.rs, configure, a Makefile) can change the bytes, and no digest of upstream shows that. With `off` the job records that there is none.
 * Jobs that pack only upstream's files, whose digests are pinned, stay unchanged.
 */
export async function withSecondBuilders(jobs: readonly Job[], off: boolean): Promise<Job[]> {
  const loaded = new Map<string, Promise<LoadedExtension>>();
  const paired = await Promise.all(
    jobs.map(async (job): Promise<Job[]> => {
      if (job.from !== 'build') return [job];
      const extension = loaded.get(job.extension) ?? loadExtension(join(REPOSITORY, 'extensions', job.extension));
      loaded.set(job.extension, extension);
      const compiled = await Promise.all(job.versions.map(async (version) => isCompiled(await extension, version)));
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
