import { NOT_TRIED } from '../source-lint.ts';
import { code } from './definition-text.ts';
import type { Plan, Probe, ScaffoldFile } from './plan.ts';

/** Commands of a package that was not built: its test fails until somebody replaces them. */
export const untried = ({ programs }: Plan): Probe[] => programs.map((program) => ({ run: [program, '--version'], says: NOT_TRIED }));

const pattern = (words: string, numbered = false): string =>
  `/${words.replaceAll(/[\\^$.*+?()[\]{}|/]/g, String.raw`\$&`)}${numbered ? String.raw`\d` : ''}/`;

/** test/extension.test.ts, before oxfmt. It only checks the existence of programs that no probe runs. */
export function testText({ programs, unit, machine, own, files = [] }: Plan, probes: readonly Probe[]): string {
  const commands = probes.map(
    ({ run, says, numbered }) => `    { run: ${code(run)}, says: ${says === 'version' ? "'version'" : pattern(says, numbered)} },`,
  );
  const silent = programs.filter((program) => probes.every(({ run }) => run[0] !== program)).map((program) => `/usr/bin/${program}`);
  const shipped = (own ?? []).filter((path) => !/^usr\/(?:bin|lib\/systemd)\//.test(path)).map((path) => `/${path}`);
  return [
    "import { testExtension } from '@flatcar/testing';",
    '',
    'testExtension(import.meta.dirname, {',
    '  commands: [',
    ...commands,
    '  ],',
    ...(unit === undefined ? [] : [`  units: [${[unit.name, ...unitsIn(files)].map(code).join(', ')}],`]),
    ...(silent.length === 0 ? [] : ['  // Not run yet: `new` found no command that prints their version or help. Add one to `commands`.']),
    ...(silent.length + shipped.length === 0 ? [] : [`  paths: ${code([...silent, ...shipped])},`]),
    ...(machine === undefined ? [] : [`  machine: ${code(machine)},`]),
    '});',
    '',
  ].join('\n');
}

/** Other services among the files. */
const unitsIn = (files: readonly ScaffoldFile[]): string[] =>
  files.flatMap(({ path }) => /^usr\/lib\/systemd\/system\/([^/]+\.service)$/.exec(path)?.[1] ?? []);
