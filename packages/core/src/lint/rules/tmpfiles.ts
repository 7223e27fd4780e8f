import { below, type RuleViolation, type LintContext, type Rule } from './rule.ts';

/** A line of tmpfiles.d(5). */
export interface TmpfilesLine {
  /** The file with the line, in the image. */
  readonly file: string;
  readonly text: string;
  readonly type: string;
  readonly modifiers: string;
  readonly path: string;
  /** The source of a copy, the target of a link, or the text to write; empty without one. */
  readonly argument: string;
}

const FILES = /^(?:usr\/lib|etc)\/tmpfiles\.d\//;
const COMMENT = /^\s*(?:#|$)/;
const LINE = /^\s*([a-zA-Z])([-+!=~^$?]*)\s+(?:"([^"]*)"|'([^']*)'|(\S+))\s*(.*)$/;

const linesOf = ({ texts }: LintContext): { file: string; text: string }[] =>
  [...texts]
    .filter(([file]) => FILES.test(file))
    .flatMap(([file, text]) => text.split('\n').map((line) => ({ file, text: line.trimEnd() })))
    .filter(({ text }) => !COMMENT.test(text));

/** All valid lines of an image's tmpfiles.d. */
export function tmpfilesOf(context: LintContext): TmpfilesLine[] {
  return linesOf(context).flatMap(({ file, text }) => {
    const match = LINE.exec(text);
    const path = match?.[3] ?? match?.[4] ?? match?.[5] ?? '';
    if (match === null || !/^[/%]/.test(path)) return [];
    // Mode, user, group and age come before the argument, which may contain blanks.
    const argument = /^(?:\S+\s+){4}(.*)$/.exec(match[6] ?? '')?.[1] ?? '';
    return [{ file, text, type: match[1] ?? '', modifiers: match[2] ?? '', path, argument: argument.trim() }];
  });
}

/** Folders whose content does not outlive a boot, or contains settings of the kernel. */
const VOLATILE = ['/run', '/tmp', '/dev', '/proc', '/sys'];

/** How a line changes a file that exists; undefined for a line that leaves it alone. */
function harmOf({ type, modifiers }: TmpfilesLine): string | undefined {
  if ('rR'.includes(type)) return 'removes';
  if (type === 'D') return 'empties';
  if (modifiers.includes('=')) return 'removes a file of another type at';
  if ('LCpcb'.includes(type) && modifiers.includes('+')) return type === 'C' ? 'mixes its files into' : 'replaces';
  if (type === 'F' || type === 'w' || (type === 'f' && modifiers.includes('+'))) return 'overwrites';
  return undefined;
}

/** Lines of tmpfiles.d. */
export const tmpfiles: Readonly<Record<string, Rule>> = {
  'tmpfiles-line': {
    level: 'error',
    checks: 'every line of tmpfiles.d has a type and an absolute path',
    reason: 'systemd-tmpfiles skips a line that it cannot read',
    fix: 'write type and path as in tmpfiles.d(5)',
    check: (context) => {
      const read = new Set(tmpfilesOf(context).map(({ file, text }) => `${file}\n${text}`));
      return linesOf(context)
        .filter(({ file, text }) => !read.has(`${file}\n${text}`))
        .map(({ file, text }): RuleViolation => ({ what: `'${text.slice(0, 80)}' is not a valid line of tmpfiles.d`, path: file }));
    },
  },
  'tmpfiles-force': {
    level: 'error',
    checks: 'no line of tmpfiles.d replaces, removes or overwrites files that may exist, except below /run, /tmp, /dev, /proc and /sys',
    reason: "systemd does it at every boot, to an operator's file or another tool's program",
    fix: "use the type that leaves an existing file alone ('L' for 'L+', 'C' for 'C+', 'f' for 'F', 'd' for 'D')",
    check: (context) =>
      tmpfilesOf(context).flatMap((line): RuleViolation[] => {
        const harm = harmOf(line);
        if (harm === undefined || VOLATILE.some((folder) => below(line.path, folder))) return [];
        return [{ what: `'${line.text.slice(0, 80)}' ${harm} ${line.path}`, path: line.file, subject: line.path }];
      }),
  },
  'etc-copy': {
    level: 'error',
    sees: 'whole',
    checks: 'a line of tmpfiles.d copies or links every file below usr/share/<extension>/etc',
    reason: 'a file in usr/share/<extension>/etc gets into /etc only by a line of tmpfiles.d',
    fix: "add a 'C' line to usr/lib/tmpfiles.d/<extension>.conf",
    check: (context) => {
      const sources = tmpfilesOf(context).flatMap(({ type, argument }) =>
        'CL'.includes(type) && argument !== '' ? [argument.replace(/\/$/, '')] : [],
      );
      return context.entries
        .filter(({ type, path }) => type === 'file' && path.startsWith(`usr/share/${context.name}/etc/`))
        .filter(({ path }) => !sources.some((source) => below(`/${path}`, source)))
        .map(({ path }): RuleViolation => ({ what: 'no line of tmpfiles.d copies this file to /etc', path }));
    },
  },
};
