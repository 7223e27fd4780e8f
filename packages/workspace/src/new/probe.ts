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
import type { Plan, Probe } from './plan.ts';
import { furnish, openTrial, type Trial } from './trial.ts';

/** Arguments that a program is tried with, until it prints its version. */
const ASKING = [['--version'], ['version'], ['version', '--short'], ['-version'], ['-V'], ['-v']];
/** Arguments for a program without a version, until it prints its help and succeeds. */
const HELPING = [['--help'], ['help'], ['-h']];

/** Most programs of a package to try: each takes a second or two. */
const MOST_PROGRAMS = 200;
/** Most commands of a program that do not end: it may be a daemon that ignores its arguments. */
const MOST_UNENDED = 2;

/** Commands that make interpreters and shells load modules, which starting them does not. Each prints `loaded`. */
const LOADING: readonly (readonly [program: RegExp, args: readonly string[]])[] = [
  [/^zsh$/, ['-f', '-c', 'zmodload zsh/datetime zsh/zle && autoload -Uz compinit && compinit -D -u && print loaded']],
  [/^python3?[\d.]*$/, ['-c', 'import ssl, ctypes, sqlite3, encodings.idna; print("loaded")']],
  [/^perl[\d.]*$/, ['-e', 'use strict; use POSIX; use Socket; use File::Spec; print "loaded\n"']],
  [/^ruby[\d.]*$/, ['-e', 'require "json"; require "openssl"; puts "loaded"']],
  [/^lua[\d.]*$/, ['-e', 'require("string"); print("loaded")']],
  [/^fish$/, ['-c', 'functions --query fish_prompt; and echo loaded']],
];

/** A program that reports another version than the pinned one. */
export interface OtherVersion {
  readonly program: string;
  readonly reported: string;
}

/** The results of all programs. */
export interface Tried {
  readonly probes: readonly Probe[];
  readonly others: readonly OtherVersion[];
  /** Interpreters and shells that cannot load modules of their own, with their output. */
  readonly broken: readonly { readonly program: string; readonly output: string }[];
  /** Programs that printed neither a version nor help, with the first line of what they printed for --version. */
  readonly silent: readonly { readonly program: string; readonly output: string }[];
}

/**
 * A line of a program's help that only the program itself prints: without its name, which errors of the loader contain too, and without digits,
 * which may belong to a version.
 */
function helpLine(help: string, program: string): string | undefined {
  return help
    .split('\n')
    .map((line) => line.trim())
    .find((line) => line.length <= 80 && /[a-z]{2,}\W+[a-z]{2,}/i.test(line) && !/[\d/]/.test(line) && !line.includes(program));
}

/** The version that a program reports: after its name or the word `version`, or the only version in its first line. */
export function reportedVersion(output: string, program: string): string | undefined {
  const number = String.raw`(\d+(?:\.\d+)+)`;
  const behind = new RegExp(`(?:\\bversion|\\b${RegExp.escape(program)})[\\s:"'(]*(?:version[\\s:"']*)?v?${number}`, 'i');
  const lines = output.split('\n').filter((line) => line.trim() !== '');
  const named = lines.slice(0, 5).flatMap((line) => behind.exec(line)?.[1] ?? []);
  const alone = [...(lines[0] ?? '').matchAll(new RegExp(String.raw`(?<![\w.])v?${number}`, 'g'))];
  return named[0] ?? (alone.length === 1 ? alone[0]?.[1] : undefined);
}

type Run = (program: string, args: readonly string[]) => Promise<Trial>;

/** The words before a version on the same line of a program's output, such as `tmux ` in `tmux 3.5a`. */
function wordsBefore(output: string, version: string): string | undefined {
  const line = output.split('\n').find((one) => one.includes(version)) ?? '';
  const words = line.slice(0, line.indexOf(version)).trimStart();
  return /[a-z]{2,}[\s:v]+$/i.test(words) && !/[\d/]/.test(words) ? words : undefined;
}

/** The result of one program. */
interface TriedProgram {
  readonly probes: Probe[];
  readonly other?: string | undefined;
  readonly output?: string | undefined;
  readonly broken?: string | undefined;
}

/**
 * Finds a command by which a program prints its version or help. `packaged` is the version of its package, in a dated extension. Stops if the
 * program's commands do not end.
 */
async function tryProgram(program: string, version: string, packaged: string | undefined, run: Run): Promise<TriedProgram> {
  const wanted = new RegExp(`(?<![\\d.])${RegExp.escape(version)}(?!\\d|\\.\\d)`);
  const loading = LOADING.find(([pattern]) => pattern.test(program))?.[1];
  const load = loading === undefined ? '' : (await run(program, loading)).output.trim();
  const loaded = load.endsWith('loaded');
  const more: Probe[] = loading !== undefined && loaded ? [{ run: [program, ...loading], says: 'loaded' }] : [];
  if (loading !== undefined && !loaded) return { probes: [], broken: load.split('\n').slice(-3).join('; ') };
  const answers: (Trial & { args: readonly string[] })[] = [];
  for (const args of ASKING) {
    const answer = { args, ...(await run(program, args)) };
    answers.push(answer);
    if (wanted.test(answer.output)) return { probes: [{ run: [program, ...args], says: 'version' }, ...more] };
    if (answers.filter(({ status }) => status === undefined).length >= MOST_UNENDED) break;
  }
  for (const { args, output } of packaged === undefined ? [] : answers) {
    const says = wordsBefore(output, packaged ?? '');
    if (says !== undefined) return { probes: [{ run: [program, ...args], says, numbered: true }, ...more] };
  }
  // -v is `verbose` as often as `version`.
  const other = answers
    .filter(({ status, args }) => status === 0 && args[0] !== '-v')
    .map(({ output }) => reportedVersion(output, program))
    .find((one) => one !== undefined);
  const silent = { probes: more, output: answers[0]?.output.trim().split('\n')[0] ?? '', other };
  if (answers.length < ASKING.length) return silent;
  for (const args of HELPING) {
    const { status, output } = await run(program, args);
    const says = status === 0 ? helpLine(output, program) : undefined;
    if (says !== undefined) return { probes: [{ run: [program, ...args], says }, ...more], other };
  }
  return silent;
}

/** Builds the image and tries its programs: which command prints their version, or their help. */
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
      report({ type: 'notice', text: `${left} of ${plan.programs.length} programs were not tried: the limit is ${MOST_PROGRAMS}` });
    return {
      probes: tried.flatMap(({ probes }) => probes),
      broken: tried.flatMap(({ program, broken }) => (broken === undefined ? [] : [{ program, output: broken }])),
      silent: tried.flatMap(({ program, output }) => (output === undefined ? [] : [{ program, output }])),
      others: tried.flatMap(({ program, other }) => {
        // A program may be of another package, or say only the beginning of its version.
        const known = [plan.version, plan.debian?.versions?.[program] ?? plan.version];
        return other === undefined || known.some((one) => one === other || one.startsWith(`${other}.`))
          ? []
          : [{ program, reported: other }];
      }),
    };
  });
}
