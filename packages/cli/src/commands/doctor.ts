import { UserError } from '@flatcar/core/engine';
import type { Command } from 'commander';
import type { Diagnosis } from '@flatcar/workspace/doctor';
import { addHelp } from '../help.ts';
import { jsonOption, type JsonFlag } from '../options.ts';
import { show, table } from '../output/terminal.ts';

function text(diagnoses: readonly Diagnosis[]): string {
  const advice = diagnoses.flatMap(({ subject, next }) => (next === undefined ? [] : [`${subject}: ${next}`]));
  return [
    table([
      ['', 'state', 'found'],
      ...diagnoses.map(({ subject, state, found }) => [subject, state === 'missing' ? 'MISSING' : state, found]),
    ]),
    ...(advice.length === 0 ? [] : ['', ...advice]),
  ].join('\n');
}

/** `doctor`: what this machine lacks. */
export function addDoctor(root: Command, signal: AbortSignal): void {
  const command = root
    .command('doctor')
    .summary('check what this machine lacks, and how to get it')
    .description('check Node, packages, store, sandbox, virtualization, hosts and keys of this machine, and advise on what is missing')
    .addOption(jsonOption())
    .action(async (flags: JsonFlag) => {
      const { diagnose, thisMachine } = await import('@flatcar/workspace/doctor');
      const diagnoses = await diagnose(thisMachine(signal));
      show(diagnoses, flags.json, text);
      const missing = diagnoses.filter(({ state }) => state === 'missing').map(({ subject }) => subject);
      if (missing.length > 0) throw new UserError(`missing: ${missing.join(', ')}`, { next: 'follow the advice above' });
    });
  addHelp(command, {
    text: ['Exits with 1 if something is missing that all commands need. A warning is about something that only some commands need.'],
    examples: ['flatcar-ext doctor', 'flatcar-ext doctor --json'],
  });
}
