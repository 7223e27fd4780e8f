import { glob } from 'node:fs/promises';
import { join } from 'node:path';
import { RULES, ruleOf, UserError, type Finding, type Neighbour } from '@flatcar/core';
import type { Command } from 'commander';
import { formatOfFile, knownImage } from '../image.ts';
import { REPOSITORY } from '../options.ts';
import { paint, show, table } from '../terminal.ts';

/** Image files as they are, and all that an extension has in its dist/. */
async function imagesOf(names: readonly string[]): Promise<string[]> {
  const found = names.map(async (name) => {
    if (name.endsWith('.raw')) return [name];
    const dist = join(REPOSITORY, 'extensions', name, 'dist');
    const images = (await Array.fromAsync(glob('*/*.raw', { cwd: dist }))).toSorted();
    if (images.length === 0)
      throw new UserError(`'${name}' is no image file, and there are no images of an extension of this name`, {
        where: dist,
        next: `flatcar-ext build ${name} makes them; flatcar-ext list shows the extensions`,
      });
    return images.map((image) => join(dist, image));
  });
  return (await Promise.all(found)).flat();
}

const line = ({ level, rule, path, what, fix }: Finding & { image: string }): string =>
  `${paint(level === 'error' ? 'red' : 'yellow', level)} [${rule}] ${path === undefined ? '' : `${path}: `}${what}\n    ${fix}`;

/** `lint` and `explain`: the rules, on finished images. */
export function addLint(root: Command): void {
  root
    .command('lint')
    .description('check finished images by their own bytes (builds check what they stage by the same rules)')
    .argument('<images...>', '.raw files with their manifests beside them, or extensions whose images are in dist/')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  flatcar-ext lint kubernetes\n  flatcar-ext lint docker kubernetes crun        also: can they be merged together?',
    )
    .action(async (names: string[], flags: { json?: boolean }) => {
      const files = await imagesOf(names);
      const { lintImage, lintNeighbours, openStore, openTools } = await import('@flatcar/core');
      const store = openStore();
      const tools = openTools(store);
      const findings: (Finding & { image: string })[] = [];
      const together = new Map<string, Neighbour[]>();
      for (const file of files) {
        const { manifest, target } = await knownImage(file);
        const { name, kind, architecture, waived, replaces, conflicts } = manifest;
        const subject = { name, kind, arch: architecture, target, definition: { promises: [], replaces, waive: waived } };
        const linted = await lintImage(file, await formatOfFile(file), subject, { tools, store });
        findings.push(...linted.findings.map((finding) => ({ image: file, ...finding })));
        // What one node may merge side by side.
        const node = `${manifest.target} ${architecture}`;
        together.set(node, [...(together.get(node) ?? []), { name, conflicts, entries: linted.tree.entries }]);
      }
      for (const [node, images] of together) findings.push(...lintNeighbours(images).map((finding) => ({ image: node, ...finding })));
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
