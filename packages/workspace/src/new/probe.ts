import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  buildExtension,
  catalogue,
  channelHead,
  formatOf,
  hostArch,
  loadExtension,
  openSandbox,
  unpackImage,
  type Report,
} from '@flatcar/core/engine';
import type { UpstreamContext } from '@flatcar/upstream';
import type { Plan, Probe } from './scaffold.ts';
import { furnish, openTrial, type Trial } from './trial.ts';

/** Commands that a program is tried with, until one says its version. */
const ASKING = [['--version'], ['version'], ['version', '--short'], ['-version'], ['-V'], ['-v']];
/** And if none does: until one prints its help, and calls that no error. */
const HELPING = [['--help'], ['help'], ['-h']];

/** Programs of a package that are tried; each takes a second or two. */
const MOST_PROGRAMS = 200;
/** Commands that may not end before a program is tried no more: one may be a daemon by another word. */
const MOST_UNENDED = 2;

/** What interpreters and shells load at run time: that they start shows nothing of it. Each prints `loaded`. */
const LOADING: readonly (readonly [program: RegExp, args: readonly string[]])[] = [
  [/^zsh$/, ['-f', '-c', 'zmodload zsh/datetime zsh/zle && autoload -Uz compinit && compinit -D -u && print loaded']],
  [/^python3?[\d.]*$/, ['-c', 'import ssl, ctypes, sqlite3, encodings.idna; print("loaded")']],
  [/^perl[\d.]*$/, ['-e', 'use strict; use POSIX; use Socket; use File::Spec; print "loaded\n"']],
  [/^ruby[\d.]*$/, ['-e', 'require "json"; require "openssl"; puts "loaded"']],
  [/^lua[\d.]*$/, ['-e', 'require("string"); print("loaded")']],
  [/^fish$/, ['-c', 'functions --query fish_prompt; and echo loaded']],
];

/** A program that says another version than the one that is pinned. */
export interface OtherVersion {
  readonly program: string;
  readonly said: string;
}

/** What came of the trial. */
export interface Tried {
  readonly probes: readonly Probe[];
  readonly others: readonly OtherVersion[];
  /** Interpreters and shells that cannot load modules of their own, and what they say. */
  readonly broken: readonly { readonly program: string; readonly said: string }[];
  /** Programs that said nothing of use, and what they said when they were asked for their version. */
  readonly silent: readonly { readonly program: string; readonly said: string }[];
}

/**
 * A line of a program's help that only the program prints: without its name, which a loader's errors have too and which depends on how it
 * was started, and without digits, which may be of a version.
 */
function helpLine(help: string, program: string): string | undefined {
  return help
    .split('\n')
    .map((line) => line.trim())
    .find((line) => line.length <= 80 && /[a-z]{2,}\W+[a-z]{2,}/i.test(line) && !/[\d/]/.test(line) && !line.includes(program));
}

/** A version as a program says it of itself: behind its name or the word `version`, or as the only one in its first line. */
export function versionSaid(said: string, program: string): string | undefined {
  const number = String.raw`(\d+(?:\.\d+)+)`;
  const behind = new RegExp(`(?:\\bversion|\\b${RegExp.escape(program)})[\\s:"'(]*(?:version[\\s:"']*)?v?${number}`, 'i');
  const lines = said.split('\n').filter((line) => line.trim() !== '');
  const named = lines.slice(0, 5).flatMap((line) => behind.exec(line)?.[1] ?? []);
  const alone = [...(lines[0] ?? '').matchAll(new RegExp(String.raw`(?<![\w.])v?${number}`, 'g'))];
  return named[0] ?? (alone.length === 1 ? alone[0]?.[1] : undefined);
}

type Run = (program: string, args: readonly string[]) => Promise<Trial>;

/** What comes before a version in what a program says of itself, on one line and with the program's name or another word: `tmux ` of `tmux 3.5a`. */
function wordsBefore(said: string, version: string): string | undefined {
  const line = said.split('\n').find((one) => one.includes(version)) ?? '';
  const words = line.slice(0, line.indexOf(version)).trimStart();
  return /[a-z]{2,}[\s:v]+$/i.test(words) && !/[\d/]/.test(words) ? words : undefined;
}

/** What came of one program. */
interface TriedProgram {
  readonly probes: Probe[];
  readonly other?: string;
  readonly said?: string;
  readonly broken?: string;
}

/**
 * How one program says its version, or prints help, and what else it can show; `packaged` is the version of its package, in a dated extension. One whose
 * commands do not end is not tried further.
 */
async function tryProgram(program: string, version: string, packaged: string | undefined, run: Run): Promise<TriedProgram> {
  const wanted = new RegExp(`(?<![\\d.])${RegExp.escape(version)}(?!\\d|\\.\\d)`);
  const loading = LOADING.find(([pattern]) => pattern.test(program))?.[1];
  const load = loading === undefined ? '' : (await run(program, loading)).said.trim();
  const loaded = load.endsWith('loaded');
  const more: Probe[] = loading !== undefined && loaded ? [{ run: [program, ...loading], says: 'loaded' }] : [];
  if (loading !== undefined && !loaded) return { probes: [], broken: load.split('\n').slice(-3).join('; ') };
  const answers: (Trial & { args: readonly string[] })[] = [];
  for (const args of ASKING) {
    const answer = { args, ...(await run(program, args)) };
    answers.push(answer);
    if (wanted.test(answer.said)) return { probes: [{ run: [program, ...args], says: 'version' }, ...more] };
    if (answers.filter(({ status }) => status === undefined).length >= MOST_UNENDED) break;
  }
  for (const { args, said } of packaged === undefined ? [] : answers) {
    const says = wordsBefore(said, packaged ?? '');
    if (says !== undefined) return { probes: [{ run: [program, ...args], says, numbered: true }, ...more] };
  }
  // -v is `verbose` as often as `version`.
  const other = answers
    .filter(({ status, args }) => status === 0 && args[0] !== '-v')
    .map(({ said }) => versionSaid(said, program))
    .find((one) => one !== undefined);
  const silent = { probes: more, said: answers[0]?.said.trim().split('\n')[0] ?? '', other };
  if (answers.length < ASKING.length) return silent;
  for (const args of HELPING) {
    const { status, said } = await run(program, args);
    const says = status === 0 ? helpLine(said, program) : undefined;
    if (says !== undefined) return { probes: [{ run: [program, ...args], says }, ...more], other };
  }
  return silent;
}

/** Builds the image, and tries how its programs say their version, or print help. */
export async function probe(dir: string, plan: Plan, context: UpstreamContext, report: Report): Promise<Tried> {
  const arch = hostArch();
  return context.store.withTemp(async (temp) => {
    const loaded = await loadExtension(dir);
    const target = loaded.extension.releaseBound ? channelHead('stable', catalogue()) : 'portable';
    const { images } = await buildExtension(loaded, {
      version: plan.version,
      arch,
      targets: [target],
      profile: 'fast',
      origin: 'auto',
      out: join(temp, 'out'),
      store: context.store,
      tools: context.tools,
      report,
      mirror: context.mirror,
      signal: context.signal,
    });
    const root = join(temp, 'root');
    const [image] = images;
    if (image === undefined) throw new Error('the build made no image');
    await unpackImage(context.tools, image.file, formatOf(target), arch, root);
    await furnish(root);
    const work = join(temp, 'work');
    await mkdir(work);
    const trial = openTrial(openSandbox(context.store, context.tools), root, work);
    const run: Run = (program, args) => trial(program, args, context.signal);
    const tried: (TriedProgram & { readonly program: string })[] = [];
    for (const program of plan.programs.slice(0, MOST_PROGRAMS)) {
      const packaged = plan.debian?.dated === true ? plan.debian.versions?.[program] : undefined;
      tried.push({ program, ...(await tryProgram(program, plan.version, packaged, run)) });
    }
    const left = plan.programs.length - tried.length;
    if (left > 0)
      report({ type: 'notice', text: `${left} of ${plan.programs.length} programs were not tried: ${MOST_PROGRAMS} are the most` });
    return {
      probes: tried.flatMap(({ probes }) => probes),
      broken: tried.flatMap(({ program, broken }) => (broken === undefined ? [] : [{ program, said: broken }])),
      silent: tried.flatMap(({ program, said }) => (said === undefined ? [] : [{ program, said }])),
      others: tried.flatMap(({ program, other }) => {
        // A program may be of another package, or say only the beginning of its version.
        const known = [plan.version, plan.debian?.versions?.[program] ?? plan.version];
        return other === undefined || known.some((one) => one === other || one.startsWith(`${other}.`)) ? [] : [{ program, said: other }];
      }),
    };
  });
}
