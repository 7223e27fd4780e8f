import { join } from 'node:path';
import type { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createProgram } from '../src/program.ts';

// help.txt has the help of every command, to be read from top to bottom. `vitest -u` writes it.
const columns = Object.getOwnPropertyDescriptor(process.stdout, 'columns');
beforeAll(() => void Object.defineProperty(process.stdout, 'columns', { value: 80, configurable: true }));
afterAll(() => {
  if (columns === undefined) Reflect.deleteProperty(process.stdout, 'columns');
  else Object.defineProperty(process.stdout, 'columns', columns);
});

interface Page {
  /** The command as it is typed. */
  readonly name: string;
  readonly command: Command;
  readonly text: string;
}

function pagesOf(command: Command, name: string): Page[] {
  let text = '';
  command.configureOutput({ writeOut: (part) => (text += part) }).outputHelp();
  const below = command.commands.filter((one) => one.name() !== 'help');
  return [{ name, command, text }, ...below.flatMap((one) => pagesOf(one, `${name} ${one.name()}`))];
}

/** Lines below `Examples:` that are commands, not comments or continuations. */
function examplesOf(text: string): string[] {
  const [, examples = ''] = text.split('\nExamples:\n');
  return examples.split('\n').filter((line) => /^ {2}[^ #]/.test(line));
}

const pages = (): Page[] => pagesOf(createProgram(new AbortController().signal), 'flatcar-ext');

test('the help of every command is what help.txt has', async () => {
  const text = pages().map((page) => `$ ${page.name} --help\n${page.text}`);
  await expect(text.join(`\n${'─'.repeat(80)}\n`)).toMatchFileSnapshot(join(import.meta.dirname, 'help.txt'));
});

describe('every command', () => {
  const all = pagesOf(createProgram(new AbortController().signal), 'flatcar-ext').map(({ name }) => name);

  test.each(all)('%s', (name) => {
    const page = pages().find((one) => one.name === name);
    const { command, text } = page as Page;
    expect(text.split('\n').filter((line) => line.length > 80)).toEqual([]);
    expect(text.match(/^Examples:$/gm)).toHaveLength(1);
    expect(examplesOf(text).length, 'examples').toBeGreaterThanOrEqual(2);
    // A verb, and no full stop; the program's own description is a sentence.
    if (command.parent !== null) expect(command.description()).toMatch(/^(?!the |a |an )[a-z][^]*[^.]$/);
    for (const option of command.options)
      expect(option.description, option.flags).toMatch(/^[^A-Z .][^]*[^.]$|^(?:PEM|SPDX|URL|OpenPGP|NAME) /);
    for (const argument of command.registeredArguments) expect(argument.description, argument.name()).not.toBe('');
  });
});

test('a narrower terminal gets narrower help', () => {
  Object.defineProperty(process.stdout, 'columns', { value: 60, configurable: true });
  try {
    const build = pages().find(({ name }) => name === 'flatcar-ext build');
    const prose = build?.text.split('\n').filter((line) => !line.includes('flatcar-ext')) ?? [];
    expect(prose.filter((line) => line.length > 60)).toEqual([]);
  } finally {
    Object.defineProperty(process.stdout, 'columns', { value: 80, configurable: true });
  }
});
