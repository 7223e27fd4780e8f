import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { parseJson, type Manifest } from '@flatcar/core/engine';
import * as v from 'valibot';
import { failureText, runStep } from './run-step.ts';
import { acceptPayloads, bindJob, type BindOptions } from './bind-job.ts';
import type { Job } from './job.ts';
import { jobOutcome, type Outcome } from './outcome.ts';
import { boundImages, checkImages, type Subject } from './attestation-subjects.ts';

/** Folder for accepted payloads, beside those of jobs: no job id begins with a dot. */
const PAYLOADS = '.payloads';

/** The part of the output of `publish --json` that is used here. */
const PublishedSchema = v.object({ added: v.array(v.string()) });

/** Time limit of publishing one extension, in milliseconds. */
const LIMIT = 60 * 60_000;

/** What publishing the jobs of a matrix needs. */
export interface PublishFlags extends BindOptions {
  /** Folder for images, a folder `<id>/` for each job; emptied after each extension. */
  readonly images: string;
  /** Arguments of publish: destination, keys and URL. */
  readonly publishArgs: readonly string[];
  /** Arguments of bind: the key of disk images. */
  readonly bindArgs: readonly string[];
}

/** The result for an extension. */
interface Published {
  readonly outcomes: readonly Outcome[];
  /** Images that were not published before. */
  readonly added: readonly Subject[];
}

/** Binds one job to a folder of its own; returns its images, or the error. */
async function bound(
  job: Job,
  records: readonly string[],
  flags: PublishFlags,
  signal: AbortSignal,
): Promise<{ error: string } | { error: undefined; images: readonly Manifest[] }> {
  const out = join(flags.images, job.id);
  try {
    const error = await bindJob(job, records, flags, out, flags.bindArgs, signal);
    if (error !== undefined) return { error };
    const images = await boundImages(join(out, job.extension));
    checkImages(images, job);
    return { error, images };
  } catch (error) {
    signal.throwIfAborted();
    return { error: failureText(error) };
  }
}

/** Publishes the bound images of jobs of one extension; returns what is new in the tree, or the error. */
async function published(
  jobs: readonly Job[],
  images: readonly Manifest[],
  flags: PublishFlags,
  signal: AbortSignal,
): Promise<{ error: string | undefined; added: readonly Subject[] }> {
  const { imagePath } = await import('@flatcar/publish');
  const folders = jobs.flatMap(({ id, extension, from }) => [
    join(flags.images, id, extension),
    ...(from === 'build' ? [join(flags.images, PAYLOADS, id)] : []),
  ]);
  const { error, stdout } = await runStep(['publish', ...folders, ...flags.publishArgs, '--json'], signal, {
    output: flags.output,
    json: true,
    limit: LIMIT,
  });
  if (error !== undefined) return { error, added: [] };
  const { added } = parseJson(PublishedSchema, stdout, { what: 'output of publish --json', where: 'standard output' });
  const digests = new Map(images.map((manifest) => [imagePath(manifest), manifest.sha256]));
  return {
    error,
    added: added.flatMap((path) => {
      const sha256 = digests.get(path);
      return sha256 === undefined ? [] : [{ path, sha256 }];
    }),
  };
}

/**
 * Binds the images of jobs of one extension, publishes them, and removes the local files in any case: the disk holds one extension at a time.
 * Each job has an outcome for each of its steps that was started; a job that cannot be bound stops no other.
 */
export async function publishExtension(jobs: readonly Job[], flags: PublishFlags, signal: AbortSignal): Promise<Published> {
  const outcomes: Outcome[] = [];
  const ready: Job[] = [];
  const images: Manifest[] = [];
  const clean = (): Promise<void[]> =>
    Promise.all([...jobs.map(({ id }) => id), PAYLOADS].map((name) => rm(join(flags.images, name), { recursive: true, force: true })));
  await clean();
  try {
    const accepted = await acceptPayloads(jobs, flags.built, join(flags.images, PAYLOADS), signal);
    for (const { job, error } of accepted.outcomes) if (error !== undefined) flags.output.tell(`${job}: ${error}`);
    outcomes.push(...accepted.outcomes);
    for (const job of jobs) {
      const records = accepted.records.get(job.id);
      if (job.from === 'build' && records === undefined) continue;
      const made = await bound(job, records ?? [], flags, signal);
      outcomes.push(jobOutcome('bind', job, made.error));
      if (made.error === undefined) {
        ready.push(job);
        images.push(...made.images);
      } else flags.output.tell(`${job.id}: ${made.error}`);
    }
    if (ready.length === 0) return { outcomes, added: [] };
    const { error, added } = await published(ready, images, flags, signal);
    if (error !== undefined) flags.output.tell(`${ready[0]?.extension}: ${error}`);
    outcomes.push(...ready.map((job) => jobOutcome('publish', job, error)));
    return { outcomes, added };
  } finally {
    await clean();
  }
}
