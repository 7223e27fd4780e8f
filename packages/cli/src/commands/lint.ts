import { RULES, ruleOf, UserError, type Finding } from '@flatcar/core';
import type { Command } from 'commander';
import { formatOfFile, knownImage } from '../image.ts';
import { paint, show, table } from '../terminal.ts';

const line = ({ level, rule, path, what, fix }: Finding & { image: string }): string =>
  `${paint(level === 'error' ? 'red' : 'yellow', level)} [${rule}] ${path === undefined ? '' : `${path}: `}${what}\n    ${fix}`;

/** `lint` and `explain`: the rules, on finished images. */
export function addLint(root: Command): void {
  root
    .command('lint')
    .description('check finished images by their own bytes (builds check what they stage by the same rules)')
    .argument('<images...>', '.raw files with their manifests beside them')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  flatcar-ext lint extensions/*/dist/*/*.raw')
    .action(async (files: string[], flags: { json?: boolean }) => {
      const { lintImage, openStore, openTools } = await import('@flatcar/core');
      const store = openStore();
      const tools = openTools(store);
      const findings: (Finding & { image: string })[] = [];
      for (const file of files) {
        const { manifest, target } = await knownImage(file);
        const { name, kind, architecture, waived } = manifest;
        const subject = { name, kind, arch: architecture, target, definition: { promises: [], replaces: [], waive: waived } };
        findings.push(
          ...(await lintImage(file, await formatOfFile(file), subject, { tools, store })).map((finding) => ({ image: file, ...finding })),
        );
      }
      show(findings, flags.json, (all) =>
        all.length === 0 ? `${files.length} image${files.length === 1 ? '' : 's'}, nothing found` : all.map(line).join('\n'),
      );
      const errors = findings.filter(({ level }) => level === 'error');
      if (errors.length > 0) throw new UserError(`lint found ${errors.length} error${errors.length === 1 ? '' : 's'}`);
    });
  root
    .command('explain')
    .description('say why a lint rule is there and how to mend what it finds; without a rule: list them')
    .argument('[rule]')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  flatcar-ext explain\n  flatcar-ext explain usr-sbin')
    .action((id: string | undefined, flags: { json?: boolean }) => {
      const rules = (id === undefined ? Object.keys(RULES).toSorted() : [id]).map((rule) => {
        const { level, reason, fix } = ruleOf(rule);
        return { rule, level, reason, fix };
      });
      show(rules, flags.json, (all) =>
        id === undefined
          ? table([['rule', 'level', 'reason'], ...all.map(({ rule, level, reason }) => [rule, level, reason])])
          : all.map(({ rule, level, reason, fix }) => `${rule} (${level})\n  why: ${reason}\n  fix: ${fix}`).join('\n'),
      );
    });
}
