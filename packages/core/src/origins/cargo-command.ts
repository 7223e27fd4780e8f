import { glob } from 'node:fs/promises';
import { join } from 'node:path';
import { UnreachableError } from '../http/errors.ts';
import type { Store } from '../store/store.ts';
import { UserError } from '../util/errors.ts';
import { exec, networkEnv, outputOf, type ExecOptions } from '../util/exec.ts';
import { makeFolder } from '../util/files.ts';
import { userRegistry } from './cargo-config.ts';

/** Cargo has one exit status for every failure: a missing crate and an unreachable registry are known by what it prints. */
function asDownloadError(error: unknown, where: string): unknown {
  const [, missing = ''] = /could not find `([^`]+)` in registry/.exec(outputOf(error)) ?? [];
  if (missing !== '') {
    const [crate = '', version] = missing.split('@');
    return new UserError(
      version === undefined ? `the crates registry has no crate '${crate}'` : `the crates registry has no ${crate} ${version}`,
      {
        where,
        next:
          version === undefined ? 'check its name (https://crates.io)' : `check its versions (https://crates.io/crates/${crate}/versions)`,
        cause: error,
      },
    );
  }
  if (!/Could not resolve host|Couldn't connect|Failed to connect|Timeout was reached|spurious network error/i.test(outputOf(error)))
    return error;
  return new UnreachableError('the crates registry cannot be reached', {
    where,
    next: "check the network, or set source replacement in cargo's configuration",
    cause: error,
  });
}

/** Cargo with its own home. It uses the registry that the user's cargo is configured for, and nothing else of the user's. */
export interface Cargo {
  readonly home: string;
  run(args: readonly string[], options?: ExecOptions): Promise<string>;
}

/** Cargo from the pinned packages; `path` is its PATH. */
export async function openCargo(bin: string, home: string, options: { path?: string; signal?: AbortSignal } = {}): Promise<Cargo> {
  await makeFolder(home);
  const program = join(bin, 'cargo');
  const config = await userRegistry(home);
  const base = { PATH: options.path ?? `${bin}:/usr/bin:/bin`, CARGO: program, CARGO_HOME: home, ...networkEnv() };
  return {
    home,
    run: async (args, own = {}) =>
      exec(program, [...config, ...args], {
        cwd: '/',
        signal: options.signal,
        ...own,
        env: { ...base, ...own.env },
      }).catch((error: unknown) => {
        throw asDownloadError(error, args.at(-1) ?? '');
      }),
  };
}

/** Downloads a crate, checked against the registry's index. Returns its path in cargo's cache. */
export async function downloadCrate(cargo: Cargo, crate: string, version: string): Promise<string> {
  const file = `${crate}-${version}.crate`;
  await cargo.run(['info', '--registry', 'crates-io', `${crate}@${version}`]);
  const [found] = await Array.fromAsync(glob(`registry/cache/*/${file}`, { cwd: cargo.home }));
  if (found === undefined) throw new UserError(`cargo did not download ${file}`, { where: cargo.home });
  return join(cargo.home, found);
}

/** Cargo's home in a store: the registry index and downloaded crates. */
export const cargoHomeOf = (store: Store): string => join(store.root, 'cargo');
