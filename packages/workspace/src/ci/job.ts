import { readFile } from 'node:fs/promises';
import { parseJson, parseRef, ARCHES, UserError } from '@flatcar/core/engine';
import * as v from 'valibot';

/** A name of an extension, as core takes it; no path and no option can be one. */
export const NameSchema = v.pipe(v.string(), v.maxLength(64), v.regex(/^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$/, 'not a valid extension name'));

/** The id of a job: part of the names of artifacts, folders and files. */
export const JobIdSchema = v.pipe(v.string(), v.maxLength(100), v.regex(/^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$/, 'not a valid job id'));

/** The id of the second builder of a job. */
export const secondId = (id: string): string => `${id}-second`;

/** One job of the matrix that `flatcar-ext ci plan` writes. */
export const JobSchema = v.pipe(
  v.strictObject({
    /** `<extension>-<architecture>`, with `-<n>` where there are several, and with `-second` where it checks another one. */
    id: JobIdSchema,
    extension: NameSchema,
    architecture: v.picklist(ARCHES),
    from: v.picklist(['build', 'published']),
    // Arguments of commands: none begins with a dash.
    versions: v.pipe(v.string(), v.regex(/^[a-z][0-9A-Za-z@.+-]*(?: [a-z][0-9A-Za-z@.+-]*)*$/, 'not a list of name@version')),
    targets: v.pipe(v.string(), v.regex(/^[0-9a-z.]+(?:,[0-9a-z.]+)*$/, 'not a list of targets')),
    /** Where something is compiled: whether a second builder makes the same, or that was switched off. */
    second: v.optional(v.picklist(['compared', 'off'])),
    /** Of a second builder: the id of the job whose payloads it makes again. It is published by that job, and by itself not at all. */
    checks: v.optional(JobIdSchema),
  }),
  v.check(
    ({ id, extension, architecture, checks }) =>
      new RegExp(`^${extension}-${architecture}(?:-\\d+)?$`).test(checks ?? id) && (checks === undefined || id === secondId(checks)),
    'id does not begin with the extension and the architecture',
  ),
  v.check(({ from, second, checks }) => from === 'build' || (second ?? checks) === undefined, 'only what is built has a second builder'),
  v.check(
    ({ extension, versions }) => versions.split(' ').every((one) => one.startsWith(`${extension}@`)),
    'versions are not those of the extension',
  ),
);
export type Job = v.InferOutput<typeof JobSchema>;
export const MatrixSchema = v.strictObject({
  include: v.array(JobSchema),
  /** Jobs that are not begun in this run, since they failed before. */
  held: v.optional(v.array(v.strictObject({ job: JobSchema, until: v.pipe(v.string(), v.isoTimestamp()), failures: v.number() })), []),
});
/** What `ci plan` writes. */
export type Matrix = v.InferOutput<typeof MatrixSchema>;

const PLANNED = 'take it from the file that flatcar-ext ci plan --out writes';

/** Reads one job, an entry of a matrix. */
export const parseJob = (text: string): Job => parseJson(JobSchema, text, { what: 'job', where: '--job', next: PLANNED });

/** The jobs of a matrix file, as `readPlan`. */
export const readMatrix = async (file: string): Promise<Job[]> => (await readPlan(file)).include;

/** A matrix file. The ids of its jobs are unique: files and folders of one job are never those of another. */
export async function readPlan(file: string): Promise<Matrix> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new UserError('the matrix cannot be read', { where: file, cause, next: 'write it by flatcar-ext ci plan --out' });
  });
  const matrix = parseJson(MatrixSchema, text, { what: 'matrix', where: file, next: PLANNED });
  const ids = new Set(matrix.include.map(({ id }) => id));
  if (ids.size < matrix.include.length) throw new UserError('invalid matrix: two jobs have the same id', { where: file });
  const known = matrix.include.map(pairOf);
  const alone = matrix.include.find((job, index) => known.filter((pair) => pair === known[index]).length !== (hasPair(job) ? 2 : 1));
  if (alone !== undefined) throw new UserError(`invalid matrix: the other builder of '${alone.id}' is missing`, { where: file });
  return matrix;
}

/** Which jobs of a matrix a command takes. */
export interface JobSelection {
  /** Only jobs that build this extension. */
  readonly extension?: string;
  /** Only jobs whose payloads are published already. */
  readonly bindOnly?: boolean;
}

/** The first builder's id, the same for both builders of a payload: neither is built, held back or left for the next run without the other. */
export const pairOf = ({ id, checks }: Pick<Job, 'id' | 'checks'>): string => checks ?? id;

const hasPair = ({ second, checks }: Job): boolean => second === 'compared' || checks !== undefined;

/**
 * The jobs whose payloads are bound and published, of those that are selected: second builders only check. An error when an extension was
 * named that the matrix does not build.
 */
export function selectJobs(all: readonly Job[], { extension, bindOnly }: JobSelection): Job[] {
  if (extension !== undefined && bindOnly === true) throw new UserError('--extension and --bind-only exclude each other');
  const jobs = all.filter(({ checks }) => checks === undefined);
  if (bindOnly === true) return jobs.filter(({ from }) => from === 'published');
  if (extension === undefined) return [...jobs];
  const found = jobs.filter((job) => job.extension === extension && job.from === 'build');
  if (found.length === 0)
    throw new UserError(`the matrix has no job that builds '${extension}'`, {
      next: `it builds: ${[...new Set(jobs.filter(({ from }) => from === 'build').map((job) => job.extension))].join(', ') || 'nothing'}`,
    });
  return found;
}

/** The versions that a job makes, without the extension's name: upstream's where it builds, those of images where it binds. */
export const versionsOf = ({ versions }: Job): string[] => versions.split(' ').map((one) => parseRef(one).version ?? '');
