import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { attempt, outcomeOf } from '../../ci/attempt.ts';
import { MatrixSchema, parseJson, type Job } from '../../ci/job.ts';
import type { Outcome } from '../../ci/outcome.ts';
import { withRoothashKey } from '../../ci/roothash.ts';
import { writeSummary } from '../../ci/summary.ts';

/** Binds what one job asks for; a job whose payload was not built fails here too. */
async function bindJob(
  job: Job,
  flags: { payloads: string; out: string; published?: string; keyring?: string },
  keys: readonly string[],
  signal: AbortSignal,
): Promise<string | undefined> {
  const { extension, architecture, from, versions, targets } = job;
  const common = ['--release', targets, '--out', flags.out, ...keys];
  if (from === 'published') {
    if (flags.published === undefined) return 'its payload is published, and --published does not say where';
    const trust = flags.keyring === undefined ? [] : ['--keyring', flags.keyring];
    return attempt(['bind', ...versions.split(' '), '--published', flags.published, '--arch', architecture, ...trust, ...common], signal);
  }
  const folder = join(flags.payloads, extension, 'payload');
  const wanted = new Set(versions.split(' ').map((one) => one.split('@')[1]));
  const records: string[] = [];
  for (const name of await readdir(folder).catch(() => [])) {
    if (!name.endsWith('.payload.json')) continue;
    const record = JSON.parse(await readFile(join(folder, name), 'utf8')) as { arch: string; upstream: string };
    if (record.arch === architecture && wanted.has(record.upstream)) records.push(join(folder, name));
  }
  return records.length === 0 ? 'its payload was not built' : attempt(['bind', ...records, ...common], signal);
}

/** `ci bind`: the images that the jobs of a matrix ask for. */
export function addBind(ci: Command, signal: AbortSignal): void {
  ci.command('bind')
    .description('bind and sign what the jobs of a matrix ask for, of payloads that were built or are published')
    .requiredOption('--matrix <file>', 'what plan --matrix printed')
    .requiredOption('--payloads <dir>', 'what ci build made')
    .requiredOption('--out <dir>', 'where images go: <dir>/<extension>/<target>/')
    .option('--outcomes <dir>', 'where outcomes go, for report', 'outcomes')
    .option('--published <where>', 'the published tree')
    .option('--keys <dir>', 'folder of keys')
    .option('--keyring <file>', 'by which the published index is verified')
    .addHelpText(
      'after',
      '\nExamples:\n  flatcar-ext ci bind --matrix matrix.json --payloads payloads --out images --keys ~/dev-keys\n\nInstead of --keys, FLATCAR_EXT_ROOTHASH_KEY and FLATCAR_EXT_ROOTHASH_CERTIFICATE (PEM) sign disk images.',
    )
    .action(
      async (flags: {
        matrix: string;
        payloads: string;
        out: string;
        outcomes: string;
        published?: string;
        keys?: string;
        keyring?: string;
      }) => {
        const { writeOutcome } = await import('../../ci/outcome.ts');
        const { include } = parseJson(MatrixSchema, await readFile(flags.matrix, 'utf8'), flags.matrix);
        const outcomes: Outcome[] = [];
        await withRoothashKey(flags.keys, async (keys) => {
          for (const job of include) {
            const outcome = outcomeOf(
              'bind',
              job.extension,
              `${job.architecture} ${job.versions}`,
              await bindJob(job, flags, keys, signal),
            );
            outcomes.push(outcome);
            await writeOutcome(flags.outcomes, outcome);
          }
        });
        await writeSummary('Bound', outcomes);
      },
    );
}
