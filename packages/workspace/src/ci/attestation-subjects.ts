import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder, readManifest, UserError, walk, writeAtomic, type Manifest } from '@flatcar/core/engine';
import { formatsOf } from './payloads.ts';
import type { Job } from './job.ts';

/** The most subjects of an attestation (actions/attest, MAX_SUBJECT_COUNT). */
const SUBJECT_LIMIT = 1024;

/** A published file: its path in the tree and its digest. */
export interface Subject {
  readonly path: string;
  readonly sha256: string;
}

/** Writes digests in the format of sha256sum to files `subjects-<n>.sha256` of at most 1024 lines each; returns the number of files. */
export async function writeSubjects(dir: string, subjects: readonly Subject[], limit = SUBJECT_LIMIT): Promise<number> {
  await makeFolder(dir);
  for (const name of await readdir(dir)) if (/^subjects-\d+\.sha256$/.test(name)) await rm(join(dir, name));
  const files = Math.ceil(subjects.length / limit);
  for (let at = 0; at < files; at += 1) {
    const lines = subjects.slice(at * limit, (at + 1) * limit).map(({ path, sha256 }) => `${sha256}  ${path}\n`);
    await writeAtomic(join(dir, `subjects-${at + 1}.sha256`), lines.join(''));
  }
  return files;
}

/** The manifests of the images in a folder. */
export async function boundImages(dir: string): Promise<Manifest[]> {
  const files = (await walk(dir)).filter(({ path, type }) => type === 'file' && path.endsWith('.raw'));
  return Promise.all(files.map(({ full }) => readManifest(full)));
}

/** Throws a UserError for an image that the job did not plan: it would be published under the name of another extension, target or version. */
export function checkImages(images: readonly Manifest[], job: Job): void {
  for (const { name, target, architecture, format, upstream, version, file } of images) {
    const isAsked =
      name === job.extension &&
      architecture === job.architecture &&
      job.targets.includes(target) &&
      formatsOf(job).includes(format) &&
      job.versions.includes(job.from === 'build' ? upstream : version);
    if (!isAsked)
      throw new UserError(`the job ${job.id} did not plan this image of ${name} ${version} (${architecture}, ${target})`, {
        where: file,
      });
  }
}
