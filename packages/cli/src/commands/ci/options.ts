import { pipelinePath } from '@flatcar/workspace/ci/pipeline-path';
import type { Outcome } from '@flatcar/workspace/ci/outcome';
import { Option } from 'commander';

export const matrixOption = (): Option => new Option('--matrix <file>', 'file that ci plan wrote').default(pipelinePath('matrix.json'));
export const builtOption = (): Option =>
  new Option('--built <dir>', 'artifacts of ci build: a folder payload-<id>/ for each job').default(pipelinePath('built'));
export const outcomesOption = (): Option =>
  new Option('--outcomes <dir>', 'write outcomes there, for ci report').default(pipelinePath('outcomes'));
export const extensionOption = (): Option => new Option('--extension <name>', 'only the jobs that build this extension');
export const bindOnlyOption = (): Option => new Option('--bind-only', 'only the jobs whose payloads are published already');

/** The names in arguments, each of which may be a list: workflows pass several in one, or an empty one for all. */
export const namesIn = (words: readonly string[]): string[] => words.flatMap((word) => word.split(/\s+/)).filter((name) => name !== '');

/** The jobs or extensions of outcomes that failed, each once. */
export const failedOf = (outcomes: readonly Outcome[]): string[] => [
  ...new Set(outcomes.filter(({ ok }) => !ok).map(({ job, extension }) => job ?? extension)),
];
