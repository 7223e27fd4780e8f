import { access, readdir, readFile, writeFile } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { exec, findExtensions, messageOf, parseArch, selectTargets, UserError, writeAtomic } from '@flatcar/core';
import type { Command } from 'commander';
import * as v from 'valibot';
import type { Outcome } from '../ci/outcome.ts';
import { REPOSITORY } from '../options.ts';
import { show, table } from '../terminal.ts';

/** One job of `flatcar-ext plan --matrix`. */
const JobSchema = v.strictObject({
  extension: v.pipe(v.string(), v.regex(/^[a-z][a-z0-9-]*$/)),
  architecture: v.string(),
  from: v.picklist(['build', 'published']),
  // Arguments of commands: none begins with a dash.
  versions: v.pipe(v.string(), v.regex(/^[0-9a-z][0-9A-Za-z@.+-]*(?: [0-9a-z][0-9A-Za-z@.+-]*)*$/)),
  targets: v.string(),
});
type Job = v.InferOutput<typeof JobSchema>;
const MatrixSchema = v.strictObject({ include: v.array(JobSchema) });

/** What a child of this program must know of its caller's environment: all, as it is the same program. */
const passedOn = (): Record<string, string> =>
  Object.fromEntries(Object.entries(process.env).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])));

function parseJson<T extends v.GenericSchema>(schema: T, text: string, what: string): v.InferOutput<T> {
  try {
    return v.parse(schema, JSON.parse(text));
  } catch (cause) {
    throw new UserError(`${what} is not what flatcar-ext plan --matrix prints: ${messageOf(cause)}`, { cause });
  }
}

/** Runs this program as its own process, so that whatever happens to it happens to one extension; gives the end of what it said on failure. */
async function attempt(args: readonly string[], signal: AbortSignal): Promise<string | undefined> {
  const { execa } = await import('execa');
  console.error(`flatcar-ext ${args.join(' ')}`);
  const { failed, all } = await execa(join(REPOSITORY, 'packages/cli/bin/flatcar-ext'), args, {
    all: true, reject: false, cancelSignal: signal, stdout: ['pipe', 'inherit'], stderr: ['pipe', 'inherit'], maxBuffer: 64 * 2 ** 20,
  }); // prettier-ignore
  signal.throwIfAborted();
  return failed ? (all ?? '').split('\n').slice(-30).join('\n').slice(-6000) : undefined;
}

const outcomeOf = (step: Outcome['step'], extension: string, what: string, error: string | undefined): Outcome => ({
  step, extension, what, ok: error === undefined, ...(error === undefined ? {} : { error }),
}); // prettier-ignore

/** Targets by which a build makes payloads of all formats that the job's targets take: what is bound and signed is bound later. */
function payloadTargets(targets: string): string {
  const selected = selectTargets(targets);
  const ddi = selected.find((one) => one !== 'portable' && one.format === 'ddi');
  const squashfs = selected.some((one) => one === 'portable' || one.format === 'squashfs');
  return [...(squashfs ? ['portable'] : []), ...(ddi === undefined || ddi === 'portable' ? [] : [ddi.number])].join(',');
}

/** Folder with the payload records of an extension, where there is one. */
async function existing(payloads: string | undefined, extension: string): Promise<string[]> {
  if (payloads === undefined) return [];
  const folder = join(payloads, extension, 'payload');
  return access(folder).then(
    () => [folder],
    () => [],
  );
}

/**
 * Arguments of bind for the key that signs disk images: a folder, or what FLATCAR_EXT_ROOTHASH_KEY and _CERTIFICATE hold (PEM), as secrets
 * of a CI are given, in files that are gone afterwards.
 */
async function withRoothashKey<T>(keys: string | undefined, use: (args: readonly string[]) => Promise<T>): Promise<T> {
  const { FLATCAR_EXT_ROOTHASH_KEY: key, FLATCAR_EXT_ROOTHASH_CERTIFICATE: certificate } = process.env;
  if (keys !== undefined) return use(['--keys', keys]);
  if (key === undefined || key === '') return use([]);
  if (certificate === undefined || certificate === '')
    throw new UserError('FLATCAR_EXT_ROOTHASH_KEY is set without FLATCAR_EXT_ROOTHASH_CERTIFICATE');
  const { openStore } = await import('@flatcar/core');
  return openStore().withTemp(async (temp) => {
    const files = [join(temp, 'roothash.key'), join(temp, 'roothash.crt')] as const;
    await writeFile(files[0], key, { mode: 0o600 });
    await writeFile(files[1], certificate);
    return use(['--key', files[0], '--certificate', files[1]]);
  });
}

/** A table of outcomes: what failed first. */
function summaryOf(outcomes: readonly Outcome[]): string {
  const failed = outcomes.filter(({ ok }) => !ok);
  return [
    table([['extension', 'step', 'what', 'result'], ...[...failed, ...outcomes.filter(({ ok }) => ok)].map(({ extension, step, what, ok }) => [extension, step, what, ok ? 'ok' : 'FAILED'])]), // prettier-ignore
    '',
    failed.length === 0 ? `${outcomes.length} steps, all well` : `${failed.length} of ${outcomes.length} steps failed`,
  ].join('\n');
}

/** Writes the same to the page of the run (GITHUB_STEP_SUMMARY); nothing outside of a workflow. */
async function writeSummary(title: string, outcomes: readonly Outcome[]): Promise<void> {
  if (process.env['GITHUB_STEP_SUMMARY'] === undefined) return;
  const { summary } = await import('@actions/core');
  summary.addHeading(title, 2);
  summary.addTable([
    ['extension', 'step', 'what', 'result'].map((data) => ({ data, header: true })),
    ...outcomes.map(({ extension, step, what, ok }) => [extension, step, what, ok ? '✅' : '❌ failed']),
  ]);
  for (const { extension, step, what, error } of outcomes) {
    if (error === undefined) continue;
    const escaped = error.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
    summary.addDetails(`${extension}: ${step} ${what}`, `<pre>${escaped}</pre>`);
  }
  await summary.write();
}

/** The extensions that a change since `base` can have an effect on, by turbo; all when the tests' own packages changed. */
async function affectedExtensions(base: string): Promise<string[]> {
  const said = await exec('turbo', ['ls', '--affected', '--output=json'], {
    cwd: REPOSITORY,
    env: { ...passedOn(), TURBO_SCM_BASE: base, TURBO_TELEMETRY_DISABLED: '1' },
  });
  const { packages } = v.parse(
    v.object({ packages: v.object({ items: v.array(v.object({ name: v.string(), path: v.string() })) }) }),
    JSON.parse(said),
  );
  return packages.items.map(({ path }) => path).filter((path) => path.startsWith('extensions/')).toSorted(); // prettier-ignore
}

/** `ci`: the steps of the workflows, each of which runs on a laptop just as well. */
export function addCi(root: Command, signal: AbortSignal): void {
  const ci = root
    .command('ci')
    .description('the steps of the workflows in .github/, to be run anywhere')
    .addHelpText(
      'after',
      `
A release: what is missing is planned, built per extension and architecture, bound and signed, published; each extension fails alone, and is tried again by the next run.

Examples:
  flatcar-ext plan --published https://extensions.example.org --keyring keys.gpg --matrix >matrix.json
  flatcar-ext ci build --job "$(jq -c '.include[0]' matrix.json)" --out payloads --outcomes outcomes
  flatcar-ext ci bind --matrix matrix.json --payloads payloads --out images --outcomes outcomes --keys ~/dev-keys
  flatcar-ext ci publish images --to /srv/extensions --outcomes outcomes --keys ~/dev-keys --base-url https://extensions.example.org
  flatcar-ext ci report outcomes`,
    );

  ci.command('plan')
    .description("plan's matrix in a file, and for a workflow its outputs: jobs (those that build), build and all (how many)")
    .argument('[extensions...]', 'names; all unless said')
    .requiredOption('--out <file>', 'where the matrix goes')
    .option('--published <where>', 'the published tree')
    .option('--keyring <file>', 'by which the published index is verified')
    .addHelpText(
      'after',
      '\nExamples:\n  flatcar-ext ci plan --published https://extensions.example.org --keyring keys.gpg --out matrix.json',
    )
    .action(async (words: string[], flags: { out: string; published?: string; keyring?: string }) => {
      const names = words.flatMap((one) => one.split(/\s+/)).filter((one) => one !== '');
      const where = ['published', 'keyring'] as const;
      const args = ['plan', ...names, ...where.flatMap((key) => (flags[key] === undefined ? [] : [`--${key}`, flags[key]]))];
      const program = join(REPOSITORY, 'packages/cli/bin/flatcar-ext');
      const said = await exec(program, [...args, '--matrix'], { env: passedOn() });
      const { include } = parseJson(MatrixSchema, said, 'the plan');
      await writeAtomic(resolve(flags.out), `${said}\n`);
      const jobs = include.filter(({ from }) => from === 'build');
      console.log(await exec(program, args, { env: passedOn() }));
      if (process.env['GITHUB_OUTPUT'] === undefined) return;
      const { setOutput, summary } = await import('@actions/core');
      setOutput('jobs', JSON.stringify({ include: jobs }));
      setOutput('build', jobs.length);
      setOutput('all', include.length);
      summary.addHeading('Plan', 2).addRaw(`${jobs.length} jobs build, ${include.length - jobs.length} only bind.`, true);
      await summary.write();
    });

  ci.command('build')
    .description("build the payloads of one job of plan's matrix; what is published already is left to bind")
    .requiredOption('--job <json>', 'an entry of `include`')
    .requiredOption('--out <dir>', 'where payloads go')
    .option('--outcomes <dir>', 'where the outcome goes, for report', 'outcomes')
    .option('--origin <kind>', 'passed on to build', 'release')
    .addHelpText('after', `\nExamples:\n  flatcar-ext ci build --job "$(jq -c '.include[0]' matrix.json)" --out payloads`)
    .action(async (flags: { job: string; out: string; outcomes: string; origin: string }) => {
      const { writeOutcome } = await import('../ci/outcome.ts');
      const { extension, architecture, from, versions, targets } = parseJson(JobSchema, flags.job, '--job');
      if (from === 'published') return console.error(`${extension} is published: nothing to build`);
      const args = ['build', ...versions.split(' '), '--arch', parseArch(architecture), '--release', payloadTargets(targets), '--profile', 'release', '--origin', flags.origin, '--out', flags.out]; // prettier-ignore
      const outcome = outcomeOf('build', extension, `${architecture} ${versions}`, await attempt(args, signal));
      await writeOutcome(flags.outcomes, outcome);
      await writeSummary(`${extension}, ${architecture}`, [outcome]);
      if (!outcome.ok) throw new UserError(`${extension} could not be built for ${architecture}`, { next: 'what it said is above' });
    });

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
        const { writeOutcome } = await import('../ci/outcome.ts');
        const { include } = parseJson(MatrixSchema, await readFile(flags.matrix, 'utf8'), flags.matrix);
        const outcomes: Outcome[] = [];
        await withRoothashKey(flags.keys, async (keys) => {
          for (const job of include) {
            const outcome = outcomeOf('bind', job.extension, `${job.architecture} ${job.versions}`, await bindJob(job, flags, keys));
            outcomes.push(outcome);
            await writeOutcome(flags.outcomes, outcome);
          }
        });
        await writeSummary('Bound', outcomes);
      },
    );

  /** Binds what one job asks for; a job whose payload was not built fails here too. */
  async function bindJob(
    job: Job,
    flags: { payloads: string; out: string; published?: string; keyring?: string },
    keys: readonly string[],
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

  ci.command('publish')
    .description('publish the images of each extension by itself, so that one that is refused holds back no other')
    .argument('<dir>', 'what ci bind made')
    .option('--payloads <dir>', 'what ci build made: the records of what was bound')
    .requiredOption('--to <where>', 'as of publish')
    .option('--keys <dir>', 'folder of keys')
    .option('--base-url <url>', 'as of publish')
    .option('--outcomes <dir>', 'where outcomes go, for report', 'outcomes')
    .addHelpText('after', '\nExamples:\n  flatcar-ext ci publish images --to s3://extensions --base-url https://extensions.example.org')
    .action(async (dir: string, flags: { payloads?: string; to: string; keys?: string; baseUrl?: string; outcomes: string }) => {
      const { writeOutcome } = await import('../ci/outcome.ts');
      const outcomes: Outcome[] = [];
      const more = [
        ...(flags.keys === undefined ? [] : ['--keys', flags.keys]),
        ...(flags.baseUrl === undefined ? [] : ['--base-url', flags.baseUrl]),
      ];
      for (const extension of (await readdir(dir).catch(() => [])).toSorted()) {
        const folders = [join(dir, extension), ...(await existing(flags.payloads, extension))];
        const outcome = outcomeOf('publish', extension, '', await attempt(['publish', ...folders, '--to', flags.to, ...more], signal));
        outcomes.push(outcome);
        await writeOutcome(flags.outcomes, outcome);
      }
      await writeSummary('Published', outcomes);
    });

  ci.command('update')
    .description('bump each extension by itself to what upstream has now; in a workflow, a pull request for each')
    .argument('[extensions...]', 'names; all unless said')
    .option('--outcomes <dir>', 'where outcomes go, for report', 'outcomes')
    .addHelpText(
      'after',
      "\nExamples:\n  flatcar-ext ci update kubernetes\n\nWith GITHUB_TOKEN and the rest of a workflow's environment it opens pull requests; elsewhere the changes stay in the checkout.",
    ) // prettier-ignore
    .action(async (words: string[], flags: { outcomes: string }) => {
      const names = words.flatMap((one) => one.split(/\s+/)).filter((one) => one !== '');
      const { writeOutcome } = await import('../ci/outcome.ts');
      const all = (await findExtensions(REPOSITORY)).map((one) => relative(join(REPOSITORY, 'extensions'), one));
      const outcomes: Outcome[] = [];
      const steps = [
        ...(names.length > 0 ? [] : [{ name: 'releases', args: ['releases', 'update'], title: 'Flatcar releases' }]),
        ...(names.length > 0 ? names : all).map((name) => ({ name, args: ['bump', name, '--no-diff'], title: `${name}: newer versions` })),
      ];
      for (const { name, args, title } of steps) {
        let error = await attempt(args, signal);
        if (error === undefined) error = await proposeChanges(name, title).catch((thrown: unknown) => messageOf(thrown));
        const outcome = outcomeOf('update', name, '', error);
        outcomes.push(outcome);
        await writeOutcome(flags.outcomes, outcome);
      }
      await writeSummary('Updates', outcomes);
      console.log(summaryOf(outcomes));
    });

  /** A pull request for what a step changed, and a clean checkout for the next; undefined when all went well. */
  async function proposeChanges(name: string, title: string): Promise<undefined> {
    const { githubFrom } = await import('../ci/issues.ts');
    const github = githubFrom(process.env);
    if (github === undefined) return undefined;
    const { propose } = await import('../ci/propose.ts');
    const head = await exec('git', ['rev-parse', 'HEAD'], { cwd: REPOSITORY });
    try {
      const url = await propose({ ...github, server: process.env['GITHUB_SERVER_URL'] ?? '' }, REPOSITORY, {
        branch: `update/${name}`,
        title,
        body: `Pinned by \`flatcar-ext\`: every digest, and by what it was checked, is in the change. Run: ${github.run}`,
        base: process.env['GITHUB_REF_NAME'] ?? 'main',
      });
      console.error(url === undefined ? `${name}: nothing new` : `${name}: ${url}`);
    } finally {
      // Locks that failed half-way are not the next one's to propose.
      await exec('git', ['checkout', '--force', '--detach', head], { cwd: REPOSITORY });
      await exec('git', ['clean', '--force', '-d', '--quiet', 'extensions', 'packages'], { cwd: REPOSITORY });
    }
    return undefined;
  }

  ci.command('report')
    .description('say how all went; in a workflow on its page, and with one issue for each extension that fails')
    .argument('<dir>', 'where the outcomes are')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      "\nEnds with 1 when anything failed. With GITHUB_TOKEN and the rest of a workflow's environment it opens, updates and closes issues.\n\nExamples:\n  flatcar-ext ci report outcomes",
    ) // prettier-ignore
    .action(async (dir: string, flags: { json?: boolean }) => {
      const { readOutcomes } = await import('../ci/outcome.ts');
      const { githubFrom, syncIssues } = await import('../ci/issues.ts');
      const outcomes = await readOutcomes(resolve(dir));
      show(outcomes, flags.json, summaryOf);
      await writeSummary('All', outcomes);
      const github = githubFrom(process.env);
      if (github !== undefined)
        for (const { extension, action } of await syncIssues(github, outcomes)) console.error(`issue of ${extension}: ${action}`);
      const failed = new Set(outcomes.filter(({ ok }) => !ok).map(({ extension }) => extension));
      if (failed.size > 0) throw new UserError(`failed: ${[...failed].join(', ')}`, { next: 'the next run tries them again' });
    });

  ci.command('test')
    .description('run the merge tests of the extensions that a change has an effect on')
    .requiredOption('--base <ref>', 'what it is a change of, such as origin/main')
    .option('--dry-run', 'say which')
    .addHelpText('after', '\nExamples:\n  flatcar-ext ci test --base origin/main --dry-run')
    .action(async (flags: { base: string; dryRun?: boolean }) => {
      const folders = await affectedExtensions(flags.base);
      console.log(folders.length === 0 ? 'no extension is affected' : folders.join('\n'));
      if (folders.length === 0 || flags.dryRun === true) return;
      const { execa } = await import('execa');
      const { exitCode } = await execa('vitest', ['run', '--project', 'merge', ...folders.map((one) => `${one}/`)], { cwd: REPOSITORY, stdio: 'inherit', reject: false, cancelSignal: signal }); // prettier-ignore
      if (exitCode !== 0) throw new UserError('merge tests failed', { next: 'what they said is above' });
    });
}
