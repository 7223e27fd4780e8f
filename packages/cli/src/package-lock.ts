import { copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '@flatcar/core';
import { REPOSITORY } from './options.ts';

/** npm's lock of the whole repository, with an entry for each extension. */
export const packageLock = join(REPOSITORY, 'package-lock.json');
/** Which lock scripts/run has installed. */
const INSTALLED = join(REPOSITORY, 'node_modules/.installed');

/** Brings package-lock.json up to date with the package.json files of all extensions, by npm itself. */
export async function updatePackageLock(signal?: AbortSignal): Promise<void> {
  const before = await readFile(packageLock);
  const registry = process.env['npm_config_registry'];
  await exec('npm', ['install', '--package-lock-only', '--no-audit', '--no-fund'], {
    cwd: REPOSITORY,
    env: registry === undefined ? {} : { npm_config_registry: registry },
    next: 'run it by hand: npm install --package-lock-only',
    signal,
  });
  // The new entry asks for nothing that is not installed: the next command need not install everything again.
  if (before.equals(await readFile(INSTALLED).catch(() => Buffer.of()))) await copyFile(packageLock, INSTALLED);
}
