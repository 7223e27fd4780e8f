import { matchesGlob } from 'node:path';
import { closest } from '../util/closest.ts';
import { RULES } from './rules/table.ts';
import type { Finding } from '../model/finding.ts';

/** A key of `waive`: a rule, and after a colon the only paths (a glob) that it is waived for. */
function parse(key: string): { rule: string; paths: string | undefined } {
  const at = key.indexOf(':');
  return at === -1 ? { rule: key, paths: undefined } : { rule: key.slice(0, at), paths: key.slice(at + 1).replace(/^\//, '') };
}

const plain = (path: string | undefined): string => (path ?? '').replace(/^\//, '');

/** True if a waiver applies to a finding, by the finding's path in the image or by its subject. */
function covers(key: string, { rule, path, subject }: Finding): boolean {
  const waiver = parse(key);
  if (waiver.rule !== rule) return false;
  const { paths } = waiver;
  return (
    paths === undefined || [path, subject].some((one) => one !== undefined && (plain(one) === paths || matchesGlob(plain(one), paths)))
  );
}

/** Removes the findings that a definition waives with a reason. `unused` has the waivers that removed nothing. */
export function waiveFindings(
  findings: readonly Finding[],
  waive: Readonly<Record<string, string>>,
): { left: Finding[]; unused: string[] } {
  // A finding is reported despite a waiver of a fixed rule, and despite a waiver without a reason.
  const keys = Object.keys(waive).filter((key) => waive[key]?.trim() !== '' && RULES[parse(key).rule]?.fixed === undefined);
  const used = new Set<string>();
  const left = findings.filter((finding) => {
    const covering = keys.filter((key) => covers(key, finding));
    covering.forEach((key) => used.add(key));
    return covering.length === 0;
  });
  return { left, unused: keys.filter((key) => RULES[parse(key).rule] !== undefined && !used.has(key)) };
}

/** The rules that a mistyped one may mean, for an error. */
export const meant = (rule: string): string => {
  const similar = closest(rule, Object.keys(RULES));
  return similar.length === 0 ? 'flatcar-ext explain lists the rules' : `did you mean ${similar.map((one) => `'${one}'`).join(' or ')}?`;
};

/** What is wrong with the waivers of a definition themselves. */
export function lintWaivers(waive: Readonly<Record<string, string>>): Finding[] {
  return Object.entries(waive).flatMap(([key, reason]): Finding[] => {
    const { rule, paths } = parse(key);
    const error = (what: string, fix: string): Finding[] => [{ rule: 'waiver', level: 'error', what, subject: key, fix }];
    const about = RULES[rule];
    if (about === undefined) return error(`'${key}' under 'waive' names a rule that does not exist`, meant(rule));
    if (about.fixed !== undefined) return error(`'${key}' under 'waive' names a rule that cannot be waived: ${about.fixed}`, about.fix);
    if (reason.trim() === '') return error(`'${key}' under 'waive' has no reason`, 'write why the rule does not apply');
    if (paths === '') return error(`'${key}' under 'waive' has no path after the colon`, `add a path, or write '${rule}' for all paths`);
    return [];
  });
}

/** A waiver that waives nothing, as a finding. */
export const unusedWaiver = (key: string): Finding => ({
  rule: 'unused-waiver',
  level: 'warning',
  what: `'${key}' under 'waive' waives nothing`,
  subject: key,
  fix: "remove it from 'waive' in extension.ts",
});

/** The rule that a waiver names. */
export const ruleOfWaiver = (key: string): string => parse(key).rule;
