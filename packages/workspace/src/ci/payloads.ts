import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { formatOf, hashFile, readPayload, selectTargets, UserError, type Format, type Payload } from '@flatcar/core/engine';
import type { Job } from './job.ts';

/** The most bytes of a payload; the largest has 300 MB. A larger file could fill the disk of the job with the keys. */
const MAX_PAYLOAD = 4 * 2 ** 30;
const RECORD = '.payload.json';

function refuse(where: string, what: string): never {
  throw new UserError(`not what the job was planned to build: ${what}`, {
    where,
    next: 'build it again; if it happens again, find out what ran in that job before you publish anything of it',
  });
}

/** The formats of the images of a job. */
export function formatsOf({ targets }: Pick<Job, 'targets'>): Format[] {
  return [...new Set(selectTargets(targets.join(',')).map(formatOf))].toSorted();
}

/** Names in a folder, sorted. Throws a UserError for an entry that is not a plain file or folder: a link could lead out of the artifact. */
async function namesIn(dir: string, expected: 'file' | 'folder', most = 10): Promise<string[]> {
  const names = (await readdir(dir)).toSorted();
  if (names.length > most) refuse(dir, `${names.length} ${expected}s where it has at most ${most}`);
  for (const name of names) {
    if (/\p{Cc}/u.test(name)) refuse(dir, 'a name with control characters'); // they would be commands in a log
    const info = await lstat(join(dir, name));
    if (expected === 'file' ? !info.isFile() : !info.isDirectory()) refuse(join(dir, name), `not a plain ${expected}`);
  }
  return names;
}

/** The path of the first expected folder. Throws a UserError if there are others than the expected ones. */
async function enter(dir: string, expected: readonly string[]): Promise<string> {
  const stray = (await namesIn(dir, 'folder')).find((name) => !expected.includes(name));
  if (stray !== undefined) refuse(join(dir, stray), `it may write '${expected.join("' and '")}' only`);
  return join(dir, expected[0] ?? '');
}

/** The first field of a record that differs from what the job planned, as `field is 'x', not 'y'`; undefined if there is none. */
function mismatch(payload: Payload, job: Job): string | undefined {
  const differs = (field: string, is: string, should: readonly string[]): string | undefined =>
    should.includes(is) ? undefined : `${field} is '${is}', not '${should.join("' or '")}'`;
  return (
    differs('extension', payload.extension, [job.extension]) ??
    differs('arch', payload.arch, [job.architecture]) ??
    differs('upstream', payload.upstream, job.versions) ??
    differs('format', payload.format, formatsOf(job)) ??
    differs('profile', payload.profile, ['publish']) ??
    // Only the job that compares writes this field.
    differs('builders', String(payload.builders ?? 'nothing'), ['nothing'])
  );
}

/** A payload in the artifact of a job. */
export interface BuiltPayload {
  readonly payload: Payload;
  /** Path of the record. */
  readonly record: string;
}

/**
 * The payloads in the artifact of a job, `<built>/payload-<id>/`, one for each version and format of the job. The job ran other people's code,
 * so its artifact is not trusted: it may contain `payloads/<extension>/payload/` with these payloads and their records, and `outcomes/`. Throws
 * a UserError that names anything else, a link, or another payload.
 */
export async function builtPayloads(built: string, job: Job): Promise<BuiltPayload[]> {
  const artifact = join(built, `payload-${job.id}`);
  const missing = (what: string): never => {
    throw new UserError(`${what} was not built`, { where: artifact, next: 'see the outcome of its build' });
  };
  const there = await lstat(artifact).catch(() => undefined);
  if (there === undefined) return missing(job.id);
  if (!there.isDirectory()) refuse(artifact, 'not a plain folder');
  const payloads = await enter(artifact, ['payloads', 'outcomes']);
  if ((await lstat(payloads).catch(() => undefined)) === undefined) return missing(job.id);
  const folder = await enter(await enter(payloads, [job.extension]), ['payload']);
  // A payload and a record each; up to 10 more are reported by name.
  const most = 2 * job.versions.length * formatsOf(job).length + 10;
  const names = await namesIn(folder, 'file', most);
  const found = new Map<string, BuiltPayload>();
  for (const name of names.filter((one) => one.endsWith(RECORD))) {
    const record = join(folder, name);
    const payload = await readPayload(record);
    const wrong = mismatch(payload, job);
    if (wrong !== undefined) refuse(record, wrong);
    if (payload.file.includes('/') || !payload.file.endsWith(`.${payload.format}`) || !names.includes(payload.file))
      refuse(record, `its file '${payload.file}' is not beside it`);
    const slot = `${payload.upstream} ${payload.format}`;
    if (found.has(slot)) refuse(record, `a second payload of ${slot}`);
    found.set(slot, { payload, record });
  }
  const known = new Set([...found.values()].flatMap(({ payload, record }) => [payload.file, record.slice(folder.length + 1)]));
  const stray = names.find((name) => !known.has(name));
  if (stray !== undefined) refuse(join(folder, stray), 'no record names this file');
  for (const version of job.versions)
    for (const format of formatsOf(job)) if (!found.has(`${version} ${format}`)) missing(`${job.extension} ${version} (${format})`);
  for (const { payload } of found.values()) await checkFile(join(folder, payload.file), payload);
  return [...found.values()];
}

async function checkFile(file: string, { size, sha256 }: Payload): Promise<void> {
  const info = await lstat(file);
  if (info.size > MAX_PAYLOAD) refuse(file, `the file has ${info.size} bytes, more than ${MAX_PAYLOAD}`);
  if (info.size !== size || (await hashFile(file)) !== sha256) refuse(file, 'the file does not match its record');
}
