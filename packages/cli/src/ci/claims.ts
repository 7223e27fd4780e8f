import { builtPayloads, type BuiltPayload } from './payloads.ts';
import type { Job } from './job.ts';

/** The payloads of a job, each found to be what this checkout makes of its pins. */
export async function checkedPayloads(built: string, job: Job): Promise<BuiltPayload[]> {
  return builtPayloads(built, job);
}
