import { readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readContent, unpackImage } from './bind.ts';
import { UsageError } from './errors.ts';
import type { Extension } from './extension.ts';
import { releaseFilePath } from './names.ts';
import { elvesOf } from './needs.ts';
import { STRICT_XATTR } from './release-file.ts';
import { hostPathsOf } from './relocate.ts';
import { hostFiles } from './rules/host.ts';
import { layout } from './rules/layout.ts';
import { programs } from './rules/programs.ts';
import { releaseFile } from './rules/release-file.ts';
import type { LintContext, Rule } from './rules/rule.ts';
import { units } from './rules/units.ts';
import { conflictsBetween, readTree } from './tree.ts';
import type { Store } from './store.ts';
import type { Tools } from './tools.ts';
import type { Arch, Finding, Format, ImageEntry, Target, Tree } from './types.ts';

/** All rules by their id. */
export const RULES: Readonly<Record<string, Rule>> = { ...layout, ...hostFiles, ...programs, ...units, ...releaseFile };

/** What is to be linted, and what its definition says of it. */
export interface LintSubject {
  readonly name: string;
  readonly kind: 'sysext' | 'confext';
  readonly arch: Arch;
  readonly target?: Target;
  readonly definition?: Pick<Extension, 'promises' | 'replaces' | 'waive'>;
}

/** The rule of an id; throws for one that does not exist. */
export function ruleOf(id: string): Rule {
  const rule = RULES[id];
  if (rule === undefined)
    throw new UsageError(`there is no rule '${id}'`, { next: `the rules are: ${Object.keys(RULES).toSorted().join(', ')}` });
  return rule;
}

const TEXTS = /^(?:usr\/lib|etc)\/(?:systemd\/(?:system|user)|tmpfiles\.d|sysusers\.d)\//;

async function contextOf(tree: Tree, entries: readonly ImageEntry[], subject: LintSubject, size?: number): Promise<LintContext> {
  const texts = new Map<string, string>();
  for (const { path, type } of tree.entries) {
    if (type === 'file' && TEXTS.test(path)) texts.set(path, await readFile(join(tree.dir, path), 'utf8'));
  }
  const { name, kind, arch, target, definition } = subject;
  const file = releaseFilePath(name, kind);
  const elves = await elvesOf(tree);
  const loaders = new Map<string, readonly string[]>();
  for (const [path, { soname }] of elves)
    if (soname?.startsWith('ld-linux-') === true) loaders.set(path, hostPathsOf(await readFile(join(tree.dir, path)), arch));
  return {
    name,
    kind,
    arch,
    ...(target === undefined ? {} : { target }),
    entries,
    elves,
    loaders,
    texts,
    releaseFile: tree.entries.some(({ path }) => path === file) ? await readFile(join(tree.dir, file), 'utf8') : undefined,
    ...(size === undefined ? {} : { size }),
    promises: definition?.promises ?? [],
    replaces: definition?.replaces ?? [],
  };
}

/** Runs all rules, takes out what the definition waives, and finds waivers that waive nothing. */
function run(context: LintContext, waive: Readonly<Record<string, string>>): Finding[] {
  const findings: Finding[] = [];
  for (const [id, { level, fix, check }] of Object.entries(RULES)) {
    const hits = check(context);
    const reason = waive[id];
    if (reason === undefined) findings.push(...hits.map((hit) => ({ rule: id, level, ...hit, fix })));
    else if (reason.trim() === '')
      findings.push({
        rule: id,
        level: 'error',
        what: `the waiver of '${id}' gives no reason`,
        fix: "write the reason under 'waive' in extension.ts",
      });
    else if (hits.length === 0 && context.target === undefined)
      findings.push({
        rule: id,
        level: 'warning',
        what: `the waiver of '${id}' waives nothing`,
        fix: "take it out of 'waive' in extension.ts",
      });
  }
  for (const id of Object.keys(waive).filter((one) => RULES[one] === undefined))
    findings.push({
      rule: id,
      level: 'error',
      what: `'waive' names the rule '${id}', which does not exist`,
      fix: 'flatcar-ext explain lists the rules',
    });
  return findings;
}

/** Lints a staged tree, before it is packed: all findings at once, each with its fix. */
export async function lintTree(tree: Tree, subject: LintSubject): Promise<Finding[]> {
  const file = releaseFilePath(subject.name, subject.kind);
  // Packing makes root own everything, and leaves no attribute but the release file's.
  const entries = tree.entries.map(({ path, type, mode, size, link }): ImageEntry => ({
    path,
    type,
    mode,
    uid: 0,
    gid: 0,
    size,
    link,
    xattrs: path === file ? { [STRICT_XATTR]: 'false' } : {},
  }));
  return run(await contextOf(tree, entries, subject), subject.definition?.waive ?? {});
}

/** What a payload or a manifest says of an image that others stand beside. */
export interface Neighbour {
  readonly name: string;
  /** Extensions that it cannot be merged with, by its definition. */
  readonly conflicts: readonly string[];
  readonly entries: Tree['entries'];
}

/**
 * Finds images that bring different files under one path, and so cannot be merged together, without saying so in both
 * definitions: systemd would take one of them, by the order of their names.
 */
export function lintNeighbours(images: readonly Neighbour[]): Finding[] {
  return images.flatMap((one, index) =>
    images.slice(index + 1).flatMap((other): Finding[] => {
      if (one.name === other.name || (one.conflicts.includes(other.name) && other.conflicts.includes(one.name))) return [];
      const paths = conflictsBetween(one.entries, other.entries).filter((path) => !path.includes('/extension-release.d/'));
      return paths.map((path) => ({
        rule: 'collision',
        level: 'error',
        what: `'${one.name}' and '${other.name}' bring different files under this path`,
        path,
        fix: "take both from one shared component, or list each other under 'conflicts' in both extension.ts",
      }));
    }),
  );
}

/** Lints a finished image by its own bytes: metadata as the file system has it, files unpacked into a temporary folder. */
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
    // No tree has device nodes and their like; fsck.erofs unpacks them all the same. The entries tell of them.
    for (const { type, path } of entries) if (!['file', 'dir', 'link'].includes(type)) await rm(join(dir, path), { force: true });
    const tree = await readTree(dir, new Map());
    const found = run(await contextOf(tree, entries, subject, (await stat(image)).size), subject.definition?.waive ?? {});
    return { findings: found, tree };
  });
}
