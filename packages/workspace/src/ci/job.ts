import { readFile } from 'node:fs/promises';
import { parseJson, ARCHES, UserError } from '@flatcar/core/engine';
import * as v from 'valibot';

/** The name of an extension, as in core; it cannot be a path or an option. */
export const NameSchema = v.pipe(v.string(), v.maxLength(64), v.regex(/^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$/, 'not a valid extension name'));

/** The id of a job: part of the names of artifacts, folders and files. */
export const JobIdSchema = v.pipe(v.string(), v.maxLength(100), v.regex(/^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$/, 'not a valid job id'));

/** The id of the second builder of a job. */
export const secondId = (id: string): string => `${id}-second`;

/** One job of the matrix that `flatcar-ext ci plan` writes. */
export const JobSchema = v.pipe(
  v.strictObject({
    /** `<extension>-<architecture>`, with `-<n>` if there are several, and with `-second` for a second builder. */
    id: JobIdSchema,
    extension: NameSchema,
    architecture: v.picklist(ARCHES),
    from: v.picklist(['build', 'published']),
    /** Upstream versions if the job builds, image versions if it only binds. Like targets, they become arguments of commands: none begins with a dash. */
    versions: v.pipe(v.array(v.pipe(v.string(), v.regex(/^[0-9A-Za-z][0-9A-Za-z.+-]*$/, 'not a valid version'))), v.nonEmpty()),
    targets: v.pipe(v.array(v.pipe(v.string(), v.regex(/^[0-9a-z][0-9a-z.]*$/, 'not a valid target'))), v.nonEmpty()),
    /** For a job that compiles: whether a second builder builds the same, or none does. */
    second: v.optional(v.picklist(['compared', 'off'])),
    /** Of a second builder: the id of the job whose payloads it builds again. Only that job publishes them. */
    checks: v.optional(JobIdSchema),
  }),
  v.check(
    ({ id, extension, architecture, checks }) =>
      new RegExp(`^${extension}-${architecture}(?:-\\d+)?$`).test(checks ?? id) && (checks === undefined || id === secondId(checks)),
    'id does not begin with the extension and the architecture',
  ),
  v.check(({ from, second, checks }) => from === 'build' || (second ?? checks) === undefined, 'only what is built has a second builder'),
);
export type Job = v.InferOutput<typeof JobSchema>;
export const MatrixSchema = v.strictObject({
  include: v.array(JobSchema),
  /** Jobs that are not started in this run, since they failed before. */
  held: v.optional(v.array(v.strictObject({ job: JobSchema, until: v.pipe(v.string(), v.isoTimestamp()), failures: v.number() })), []),
});
/** The file that `ci plan` writes. */
export type Matrix = v.InferOutput<typeof MatrixSchema>;

const PLANNED = 'take it from the file that flatcar-ext ci plan --out writes';

/** Reads one job, an entry of a matrix. */
export const parseJob = (text: string): Job => parseJson(JobSchema, text, { what: 'job', where: '--job', next: PLANNED });

/** The jobs of a matrix file; see readPlan. */
export const readMatrix = async (file: string): Promise<Job[]> => (await readPlan(file)).include;

/** Reads a matrix file. Throws a UserError if two jobs have the same id: they would share files and folders. */
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

/** The jobs of a matrix that a command processes. */
export interface JobSelection {
  /** Only jobs that build this extension. */
  readonly extension?: string;
  /** Only jobs whose payloads are published already. */
  readonly bindOnly?: boolean;
}

/** The first builder's id, the same for both builders of a payload: both are built, held back or left for the next run together. */
export const pairOf = ({ id, checks }: Pick<Job, 'id' | 'checks'>): string => checks ?? id;

const hasPair = ({ second, checks }: Job): boolean => second === 'compared' || checks !== undefined;

/**
 * The selected jobs whose payloads are bound and published, which second builders are not. Throws a UserError if the matrix does not build
 * the named extension.
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

/** The versions of a job as arguments of commands: `kubernetes@1.37.0`. */
export const referencesOf = ({ extension, versions }: Job): string[] => versions.map((version) => `${extension}@${version}`);
