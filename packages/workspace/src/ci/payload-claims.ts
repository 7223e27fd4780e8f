import { join } from 'node:path';
import { checkClaims, loadExtension, UserError } from '@flatcar/core/engine';
import { REPOSITORY } from '../select.ts';
import type { Job } from './job.ts';
import { builtPayloads, type BuiltPayload } from './payloads.ts';

/**
 * The payloads in the artifact of a job, whose records are compared with what this checkout computes from its pins: key, components, licenses,
 * proofs, materials, tools and publish blockers. Throws a UserError that names the fields that differ.
 */
export async function checkedPayloads(built: string, job: Job): Promise<BuiltPayload[]> {
  const found = await builtPayloads(built, job);
  const loaded = await loadExtension(join(REPOSITORY, 'extensions', job.extension));
  for (const { payload, record } of found) {
    const { upstream: version, arch, format } = payload;
    const differences = await checkClaims(payload, loaded, { version, arch, format, profile: 'publish' });
    if (differences.length === 0) continue;
    const lines = differences.slice(0, 10).map(({ field, claimed, computed }) => `  ${field}: ${claimed}, not ${computed}`);
    const more = differences.length > 10 ? [`  and ${differences.length - 10} more`] : [];
    throw new UserError(`the payload record differs from what this checkout computes:\n${[...lines, ...more].join('\n')}`, {
      where: record,
      next: 'build it again from the same commit; if it differs again, find out what ran in that job before you publish anything of it',
    });
  }
  return found;
}
