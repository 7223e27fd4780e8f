import { writeSubjects, type Subject } from './attestation-subjects.ts';
import type { Job } from './job.ts';
import { jobOutcome, writeOutcome, type Outcome } from './outcome.ts';
import { publishExtension } from './publish-extension.ts';
import { withRoothashKey } from './roothash.ts';
import { failureText, type StepOutput } from './run-step.ts';

/** Where jobs are published, and with which keys; an empty word counts as absent. */
export interface PublishJobsOptions {
  /** Folder with the artifacts of jobs that built. */
  readonly built: string;
  /** Folder for images, emptied after each extension. */
  readonly images: string;
  /** Folder for outcomes. */
  readonly outcomes: string;
  /** The published tree. */
  readonly tree: string;
  /** Where published payloads are read, for example the URL of the tree; the tree by default. */
  readonly readFrom?: string;
  readonly baseUrl?: string;
  readonly keys?: string;
  readonly keyring?: string;
  /** The root of trust of the tree. */
  readonly root?: string;
  readonly assets?: string;
  /** Folder for the digests of what was published. */
  readonly checksums?: string;
  readonly firstPublish?: boolean;
  readonly unsigned?: boolean;
  readonly output: StepOutput;
}

/** What a run published. */
export interface PublishRun {
  readonly outcomes: readonly Outcome[];
  readonly subjects: readonly Subject[];
  /** Why outcomes or digests could not be written. */
  readonly problems: readonly string[];
}

/** The arguments of `publish` after the folders. */
export function publishArguments(options: PublishJobsOptions): string[] {
  const { tree, baseUrl, keys, root, keyring, assets, firstPublish, unsigned } = options;
  const values = { '--tree': tree, '--base-url': baseUrl, '--keys': keys, '--root': root, '--keyring': keyring, '--assets': assets };
  const switches = { '--first-publish': firstPublish, '--unsigned': unsigned };
  return [
    ...Object.entries(values).flatMap(([flag, value = '']) => (value === '' ? [] : [flag, value])),
    ...Object.entries(switches).flatMap(([flag, value]) => (value === true ? [flag] : [])),
  ];
}

/** Binds and publishes the jobs of one extension after the other. One that fails stops no other; only a signal is thrown. */
export async function publishJobs(jobs: readonly Job[], options: PublishJobsOptions, signal: AbortSignal): Promise<PublishRun> {
  const { built, images, tree, root, keys, output, checksums } = options;
  const outcomes: Outcome[] = [];
  const subjects: Subject[] = [];
  const problems: string[] = [];
  // For example, the folder for images cannot be made or emptied.
  const failed = (own: readonly Job[], thrown: unknown): { outcomes: Outcome[]; added: Subject[] } => {
    signal.throwIfAborted();
    const error = failureText(thrown);
    output.tell(error);
    return { outcomes: own.map((job) => jobOutcome('publish', job, error)), added: [] };
  };
  await withRoothashKey(keys, async (bindArgs) => {
    const common = { built, images, tree: options.readFrom || tree, root, output, bindArgs, publishArgs: publishArguments(options) };
    for (const [extension, own] of Map.groupBy(jobs, (job) => job.extension)) {
      const made = await publishExtension(own, common, signal).catch((thrown: unknown) => failed(own, thrown));
      outcomes.push(...made.outcomes);
      subjects.push(...made.added);
      // A disk that is full now may have room again for the next extension.
      try {
        for (const outcome of made.outcomes) await writeOutcome(options.outcomes, outcome);
        if (checksums !== undefined) await writeSubjects(checksums, subjects);
      } catch (error) {
        problems.push(`${extension}: its outcome cannot be written: ${failureText(error)}`);
      }
    }
  });
  return { outcomes, subjects, problems };
}
