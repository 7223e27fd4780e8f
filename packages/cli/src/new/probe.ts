import { spawnSync } from 'node:child_process';
import { cp, lstat, mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import {
  buildExtension,
  catalogue,
  channelHead,
  formatOf,
  hostArch,
  insideTree,
  loadExtension,
  unpackImage,
  walk,
  type Report,
} from '@flatcar/core';
import type { Plan, Probe, UpstreamContext } from '@flatcar/upstream';

/** Commands that a program is tried with, until one says its version. */
const ASKING = [['--version'], ['version'], ['version', '--short'], ['-version'], ['-V'], ['-v']];
/** And if none does: until one prints its help, and calls that no error. */
const HELPING = [['--help'], ['help'], ['-h']];

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

type Run = (program: string, args: readonly string[]) => { readonly status: number | null; readonly said: string };

/** Makes a folder in a tree; undefined where links lead it out of that. */
async function folderIn(root: string, path: string): Promise<string | undefined> {
  for (let at = path; at !== '/'; at = dirname(at)) {
    if ((await lstat(join(root, at)).catch(() => undefined)) === undefined) continue;
    if ((await insideTree(root, at)) === undefined) return undefined;
    break;
  }
  await mkdir(join(root, path), { recursive: true });
  return insideTree(root, path);
}

/** Copies what a C line of tmpfiles.d (tmpfiles.d(5)) names, unless one of its paths leaves the image: the line may be upstream's. */
export async function copyInside(root: string, from: string, to: string): Promise<void> {
  if (/(?:^|\/)\.\.(?:\/|$)/.test(`${from}\n${to}`)) return;
  const source = await insideTree(root, from);
  const folder = source === undefined ? undefined : await folderIn(root, dirname(to));
  if (source === undefined || folder === undefined) return;
  const options = { recursive: true, force: false, verbatimSymlinks: true };
  await cp(source, join(folder, basename(to)), options).catch(() => undefined); // lint tells what is not there
}

/** What a node has around an image: devices, an empty /proc, root, and what tmpfiles.d of the image copies to /etc. */
async function furnish(root: string): Promise<void> {
  for (const dir of ['dev', 'proc', 'run', 'tmp', 'var/lib', 'etc']) await mkdir(join(root, dir), { recursive: true });
  for (const name of DEVICES) await writeFile(join(root, 'dev', name), '');
  await writeFile(join(root, 'etc/passwd'), 'root:x:0:0:root:/:/bin/sh\n');
  await writeFile(join(root, 'etc/group'), 'root:x:0:\n');
  for (const { full, type } of await walk(join(root, 'usr/lib/tmpfiles.d')).catch(() => [])) {
    if (type !== 'file' || !full.endsWith('.conf')) continue;
    const text = await readFile(full, 'utf8');
    for (const [, to = '', from = ''] of text.matchAll(/^C\S*\s+(\/etc\/\S+)(?:\s+\S+){4}\s+(\/usr\/\S+)/gm))
      await copyInside(root, from, to);
  }
}

/** Devices that any program may expect and none can harm; a disk of this machine is not one of them. */
const DEVICES = ['null', 'zero', 'full', 'random', 'urandom'];

/** Longest run of a program, in milliseconds: one that does not end by itself is no answer, and a busy machine is slow to load libraries. */
const LIMIT = 30_000;

/** Runs programs of an unpacked image in a namespace of its own: no network, no other files. */
function runnerOf(root: string): Run {
  const script = `for name in ${DEVICES.join(' ')}; do mount --bind "/dev/$name" "$0/dev/$name"; done; mount -t proc proc "$0/proc"; exec chroot "$0" "$@"`;
  return (program, args) => {
    const { status, stdout, stderr, error } = spawnSync(
      'unshare',
      ['--map-root-user', '--mount', '--net', '--pid', '--fork', '--kill-child', 'sh', '-c', script, root, `/usr/bin/${program}`, ...args],
      {
        encoding: 'utf8',
        timeout: LIMIT,
        killSignal: 'SIGKILL',
        env: { PATH: '/usr/bin:/bin:/usr/sbin:/sbin', HOME: '/', LC_ALL: 'C' },
      },
    );
    const isLate = error !== undefined && 'code' in error && error.code === 'ETIMEDOUT';
    return { status, said: `${stdout}${stderr}${isLate ? `\nit did not end within ${LIMIT / 1000} seconds` : ''}` };
  };
}

/** What comes before a version in what a program says of itself, on one line and with the program's name or another word: `tmux ` of `tmux 3.5a`. */
function wordsBefore(said: string, version: string): string | undefined {
  const line = said.split('\n').find((one) => one.includes(version)) ?? '';
  const words = line.slice(0, line.indexOf(version)).trimStart();
  return /[a-z]{2,}[\s:v]+$/i.test(words) && !/[\d/]/.test(words) ? words : undefined;
}

/** How one program says its version, or prints help, and what else it can show; `packaged` is the version of its package, in a dated extension. */
function tryProgram(
  program: string,
  version: string,
  packaged: string | undefined,
  run: Run,
): { probes: Probe[]; other?: string; said?: string; broken?: string } {
  const wanted = new RegExp(`(?<![\\d.])${RegExp.escape(version)}(?!\\d|\\.\\d)`);
  const loading = LOADING.find(([pattern]) => pattern.test(program))?.[1];
  const load = loading === undefined ? '' : run(program, loading).said.trim();
  const loaded = load.endsWith('loaded');
  const more: Probe[] = loading !== undefined && loaded ? [{ run: [program, ...loading], says: 'loaded' }] : [];
  if (loading !== undefined && !loaded) return { probes: [], broken: load.split('\n').slice(-3).join('; ') };
  const answers = ASKING.map((args) => ({ args, ...run(program, args) }));
  const asking = answers.find(({ said }) => wanted.test(said));
  if (asking !== undefined) return { probes: [{ run: [program, ...asking.args], says: 'version' }, ...more] };
  for (const { args, said } of packaged === undefined ? [] : answers) {
    const says = wordsBefore(said, packaged ?? '');
    if (says !== undefined) return { probes: [{ run: [program, ...args], says, numbered: true }, ...more] };
  }
  // -v is `verbose` as often as `version`.
  const other = answers
    .filter(({ status, args }) => status === 0 && args[0] !== '-v')
    .map(({ said }) => versionSaid(said, program))
    .find((one) => one !== undefined);
  for (const args of HELPING) {
    const { status, said } = run(program, args);
    const says = status === 0 ? helpLine(said, program) : undefined;
    if (says !== undefined) return { probes: [{ run: [program, ...args], says }, ...more], other };
  }
  return { probes: more, said: answers[0]?.said.trim().split('\n')[0] ?? '', other };
}

/** Builds the image, and tries how its programs say their version, or print help. */
export async function probe(dir: string, plan: Plan, context: UpstreamContext, report: Report): Promise<Tried> {
  const arch = hostArch();
  return context.store.withTemp(async (temp) => {
    const loaded = await loadExtension(dir);
    const target = loaded.extension.bound ? channelHead('stable', catalogue()) : 'portable';
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
    const run = runnerOf(root);
    const tried = plan.programs.map((program) => ({
      program,
      ...tryProgram(program, plan.version, plan.debian?.dated === true ? plan.debian.versions?.[program] : undefined, run),
    }));
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
