import { open, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readContent, unpackImage } from '../image/bind.ts';
import type { Omission } from '../inspect/omission.ts';
import { UsageError } from '../util/errors.ts';
import type { Extension } from '../definition/types.ts';
import { releaseFilePath } from '../model/names.ts';
import { readElfFiles } from '../inspect/host-requirements.ts';
import { STRICT_XATTR } from '../image/release-file.ts';
import { hostPathsOf } from '../inspect/loader.ts';
import { between } from './rules/elsewhere.ts';
import type { LintContext, Rule, RuleText } from './rules/rule.ts';
import { IMAGE_RULES, RULES } from './rules/table.ts';
import { lintWaivers, meant, ruleOfWaiver, unusedWaiver, waiveFindings } from './waivers.ts';
import { conflictsBetween, readTree } from '../image/tree.ts';
import type { Store } from '../store/store.ts';
import type { Tools } from '../tools/tools.ts';
import type { Arch } from '../model/arch.ts';
import type { Finding } from '../model/finding.ts';
import type { ImageEntry } from '../model/image.ts';
import type { Tree } from '../model/payload.ts';
import type { Format, Target } from '../model/target.ts';

/** What to lint, with its definition. */
export interface LintSubject {
  readonly name: string;
  readonly kind: 'sysext' | 'confext';
  readonly arch: Arch;
  readonly target?: Target;
  readonly definition?: Pick<Extension, 'requiredPaths' | 'replaces' | 'waive'>;
  /** Absolute paths in the extensions that it requires (pathsBeside). */
  readonly beside?: ReadonlySet<string>;
  /** Of a staged tree: files of packages that its relocated programs name and it lacks. */
  readonly omissions?: readonly Omission[];
  /** Of a tree with some of an image's files: paths of the others, and whether these are all. */
  readonly part?: { readonly isWhole: boolean; readonly expected: readonly string[] };
}

/** The texts of a rule. Throws a UsageError for a rule that does not exist. */
export function ruleOf(id: string): RuleText {
  const rule = Object.hasOwn(RULES, id) ? RULES[id] : undefined;
  if (rule === undefined) throw new UsageError(`there is no rule '${id}'`, { next: meant(id) });
  return rule;
}

const TEXTS = /^(?:usr\/lib|etc)\/(?:systemd\/(?:system|user)|tmpfiles\.d|sysusers\.d)\//;

async function contextOf(tree: Tree, entries: readonly ImageEntry[], subject: LintSubject, size?: number): Promise<LintContext> {
  const texts = new Map<string, string>();
  const shebangs = new Map<string, string>();
  for (const { path, type } of tree.entries) {
    if (type !== 'file') continue;
    if (TEXTS.test(path)) texts.set(path, await readFile(join(tree.dir, path), 'utf8'));
    const shebang = await shebangOf(join(tree.dir, path));
    if (shebang !== undefined) shebangs.set(path, shebang);
  }
  const { name, kind, arch, target, definition } = subject;
  const file = releaseFilePath(name, kind);
  const elfFiles = await readElfFiles(tree);
  const loaders = new Map<string, readonly string[]>();
  for (const [path, { soname }] of elfFiles)
    if (soname?.startsWith('ld-linux-') === true) loaders.set(path, hostPathsOf(await readFile(join(tree.dir, path)), arch));
  return {
    name,
    kind,
    arch,
    target,
    entries,
    elfFiles,
    loaders,
    texts,
    shebangs,
    omissions: subject.omissions ?? [],
    releaseFile: tree.entries.some(({ path }) => path === file) ? await readFile(join(tree.dir, file), 'utf8') : undefined,
    size,
    requiredPaths: definition?.requiredPaths ?? [],
    replaces: definition?.replaces ?? [],
    beside: subject.beside ?? new Set(),
    unread: new Set(subject.part?.expected),
  };
}

/** The findings of the rules that apply to such a tree, without waived ones, and findings about the waivers. */
function run(context: LintContext, { definition, part }: LintSubject): Finding[] {
  const waive = definition?.waive ?? {};
  const isWhole = part?.isWhole ?? true;
  const isBound = context.target !== undefined;
  const judges = ({ sees = 'any' }: Rule): boolean => sees === 'any' || (sees === 'whole' ? isWhole : isBound);
  const found = Object.entries(IMAGE_RULES)
    .filter(([, rule]) => judges(rule))
    .flatMap(([rule, { level, fix, check }]) => check(context).map((hit): Finding => ({ rule, level, ...hit, fix })));
  const { left, unused } = waiveFindings(found, waive);
  // A waiver may be for another target, or for files that this part of a tree lacks.
  const idle = unused.filter((key) => {
    const rule = IMAGE_RULES[ruleOfWaiver(key)];
    return rule !== undefined && part === undefined && !isBound && judges(rule);
  });
  return [...left, ...lintWaivers(waive), ...idle.map(unusedWaiver)];
}

/** The first line of a file that begins with `#!`, of its first 1024 bytes: more than the kernel reads. */
async function shebangOf(file: string): Promise<string | undefined> {
  const handle = await open(file);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(1024), 0, 1024, 0);
    const text = buffer.toString('latin1', 0, bytesRead);
    return text.startsWith('#!') ? text.split('\n', 1)[0] : undefined;
  } finally {
    await handle.close();
  }
}

/**
 * Lints a staged tree before it is packed. Returns all findings, each with its fix. On a part of an image, rules that need the whole image are
 * skipped unless the subject lists all other paths.
 */
export async function lintTree(tree: Tree, subject: LintSubject): Promise<Finding[]> {
  const file = releaseFilePath(subject.name, subject.kind);
  // Packing makes root own every entry, and keeps no attribute but the release file's.
  const owned = { uid: 0, gid: 0 };
  const entries = tree.entries.map(({ path, type, mode, size, link }): ImageEntry => {
    return { path, type, mode, ...owned, size, link, xattrs: path === file ? { [STRICT_XATTR]: 'false' } : {} };
  });
  const there = new Set(entries.map(({ path }) => path));
  const expected = (subject.part?.expected ?? []).filter((path) => !there.has(path));
  const others = expected.map((path): ImageEntry => ({ path, type: 'file', mode: 0o755, ...owned, size: 0, xattrs: {} }));
  return run(await contextOf(tree, [...entries, ...others], subject), subject);
}

/** An image that may be merged with others. */
export interface Neighbour {
  readonly name: string;
  /** Extensions that its definition lists under `conflicts`. */
  readonly conflicts: readonly string[];
  readonly entries: Tree['entries'];
}

/**
 * Finds images that contain different files at one path and do not list each other under `conflicts`: systemd would take one of the files,
 * by the order of the images' names.
 */
export function lintNeighbours(images: readonly Neighbour[]): Finding[] {
  return images.flatMap((one, index) =>
    images.slice(index + 1).flatMap((other): Finding[] => {
      if (one.name === other.name || (one.conflicts.includes(other.name) && other.conflicts.includes(one.name))) return [];
      const paths = conflictsBetween(one.entries, other.entries).filter((path) => !path.includes('/extension-release.d/'));
      return paths.map((path) => ({
        rule: 'collision',
        level: between.collision.level,
        what: `'${one.name}' and '${other.name}' contain different files at this path`,
        path,
        fix: between.collision.fix,
      }));
    }),
  );
}

/** Lints a finished image: metadata from its file system, and its files, unpacked into a temporary folder. */
export async function lintImage(
  image: string,
  format: Format,
  subject: LintSubject,
  context: { tools: Tools; store: Store },
): Promise<{ findings: Finding[]; tree: Tree }> {
  const { entries } = await readContent(image, format, subject.arch);
  return context.store.withTemp(async (temp) => {
    const dir = join(temp, 'content');
    await unpackImage(context.tools, image, format, subject.arch, dir);
    // fsck.erofs unpacks device nodes, which a tree cannot have. `entries` has them for the rule special-file.
    for (const { type, path } of entries) if (!['file', 'dir', 'link'].includes(type)) await rm(join(dir, path), { force: true });
    const tree = await readTree(dir, new Map());
    const found = run(await contextOf(tree, entries, subject, (await stat(image)).size), subject);
    return { findings: found, tree };
  });
}
