import { appendFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { homedir } from 'node:os';
import { resolve } from 'node:path';

/** The environment variable that a stand-in cannot work without. */
export function need(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === '') throw new Error(`${name} is not set`);
  return value;
}

/** An input of the action, without the space around it; empty where it was not given. */
export const input = (name: string): string => (process.env[`INPUT_${name.replaceAll(' ', '_').toUpperCase()}`] ?? '').trim();

/** The lines of an input that are not empty. */
export const lines = (name: string): string[] =>
  input(name)
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');

function append(variable: string, name: string, value: string): void {
  const end = `end_${randomUUID()}`;
  appendFileSync(need(variable), `${name}<<${end}\n${value}\n${end}\n`);
}
/** Sets an output of the step. */
export const output = (name: string, value: string): void => append('GITHUB_OUTPUT', name, value);
/** Keeps a value for the action's post step. */
export const saveState = (name: string, value: string): void => append('GITHUB_STATE', name, value);
/** Sets a variable of the steps that follow. */
export const exportVariable = (name: string, value: string): void => append('GITHUB_ENV', name, value);
/** Hides a value in the log. */
export const mask = (value: string): void => console.log(`::add-mask::${value}`);

/** A path as the toolkit's glob reads it: `~` is the home folder, relative ones are of the workspace. */
export const pathOf = (text: string): string => resolve(need('GITHUB_WORKSPACE'), text.replace(/^~(?=\/|$)/, homedir()));

/** Runs an action: its error fails the step. */
export async function run(main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    console.log(`::error::${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  }
}
