import { execFile } from 'node:child_process';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { cacheRoot } from '@flatcar/core/engine';

const run = promisify(execFile);
const bin = resolve(import.meta.dirname, '../../bin/flatcar-ext');

export interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs the command as a person outside of any workflow would, with the store of the tests. */
export async function flatcarExt(args: readonly string[], env: Readonly<Record<string, string>> = {}, cwd?: string): Promise<Ended> {
  const plain = Object.fromEntries(
    Object.entries(process.env).filter(([key]) => !/^(?:GITHUB_|RUNNER_|FLATCAR_EXT_(?!RELEASES$)|FORCE_COLOR)/.test(key)),
  );
  const options = { env: { ...plain, FLATCAR_EXT_CACHE: cacheRoot(), ...env }, maxBuffer: 64 << 20, ...(cwd === undefined ? {} : { cwd }) };
  return run(bin, args, options).then(
    ({ stdout, stderr }) => ({ code: 0, out: stdout, err: stderr }),
    ({ code, stdout, stderr }: { code: number; stdout: string; stderr: string }) => ({ code, out: stdout, err: stderr }),
  );
}
