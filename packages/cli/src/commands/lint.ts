import { relative } from 'node:path';
import { UserError, UserErrors, inLine } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { addHelp } from '../help.ts';
import { jsonOption } from '../options.ts';
import type { ReportedFinding } from '@flatcar/workspace/image-lint';
import type { LintReport } from '@flatcar/workspace/lint';
import { REPOSITORY } from '@flatcar/workspace/select';
import { paint, show } from '../output/terminal.ts';

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

/** A finding as `file:line (image: path)`, with what is wrong and how to fix it. */
function line({ level, rule, image, path, where, what, fix, fixed }: ReportedFinding): string {
  const head = fixed === true ? paint('green', 'fixed') : paint(level === 'error' ? 'red' : 'yellow', level);
  const rest = fixed === true ? '' : `\n    ${inLine(fix)}`;
  const inImage = image === undefined ? undefined : `${relative(REPOSITORY, image)}${path === undefined ? '' : `: ${path}`}`;
  const source = where?.replace(`${REPOSITORY}/`, '');
  const place = source === undefined || inImage === undefined ? (source ?? inImage ?? '') : `${source} (${inImage})`;
  return `${head} [${rule}] ${inLine(place)}: ${inLine(what)}${rest}`;
}

/** What a person reads of a report. */
export function lintText({ findings, extensions, images, pending }: LintReport): string {
  const checked = [
    ...(extensions === 0 ? [] : [counted(extensions, 'extension')]),
    `${counted(images, 'image')}${images === 0 && extensions > 0 ? ': only definitions and files/ were checked' : ''}`,
  ].join(', ');
  return [
    ...findings.map(line),
    `${checked}; ${findings.length === 0 ? 'nothing found' : `${findings.length} found`}`,
    ...(pending.length === 0 ? [] : [`  not before a build: ${pending.join(', ')}`]),
  ].join('\n');
}

/** `lint`: the rules, on folders of extensions and on finished images. */
export function addLint(root: Command): void {
  const command = root
    .command('lint')
    .description('check extensions and finished images by the lint rules')
    .argument('[names...]', 'extensions, or .raw files with their manifests (default: all extensions)')
    .option('--fix', 'fix what a program can fix: locks, READMEs, package.json with its entry in package-lock.json, file modes')
    .addOption(jsonOption())
    .action(async (names: string[], flags: { fix?: boolean; json?: boolean }) => {
      const { lint } = await import('@flatcar/workspace/lint');
      const report = await lint(names, { fix: flags.fix });
      show(report.findings, flags.json, () => lintText(report));
      const errors = report.findings.filter(({ level, fixed }) => level === 'error' && fixed !== true);
      const text = `lint found ${counted(errors.length, 'error')}`;
      if (report.failures.length > 0) throw new UserErrors(errors.length > 0 ? text : 'not everything could be checked', report.failures);
      if (errors.length > 0) throw new UserError(text);
    });
  addHelp(command, {
    text: [
      'Of an extension, its definition and files are checked, and the images in its dist/ if they were built from these. Of several images, the rules also check whether systemd can merge them together. Builds check what they stage by the same rules.',
    ],
    examples: [
      'flatcar-ext lint kubernetes',
      'flatcar-ext lint --fix',
      '# can these be merged together?',
      'flatcar-ext lint docker kubernetes crun',
    ],
  });
}
