import { mkdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import { exec } from '@flatcar/core/engine';

const REPOSITORY = resolve(import.meta.dirname, '../../..');
const FILES = `git ls-files -co --exclude-standard -z | tar --null --ignore-failed-read -T - -cf - | tar -xf - -C "$1" --no-same-owner`;
// Packages are many files that nobody writes into: links. npm and scripts/run write into those beside them.
const PACKAGES = `cp -al node_modules "$1"; cp -al scripts/toolchain/node_modules "$1/scripts/toolchain"
find "$1/node_modules" -maxdepth 1 -name '.*' -type f -exec sh -euc 'for file; do cp "$file" "$file.copy"; mv "$file.copy" "$file"; done' sh {} +`;

/** Copies the files of this repository, with changes that are not committed, to a new or empty folder. */
export async function copyRepository(to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  await exec('sh', ['-euc', FILES, 'sh', to], { cwd: REPOSITORY });
}

/** Gives a copy of this repository the packages that are installed here; the copy must be on the same file system. */
export async function linkPackages(to: string): Promise<void> {
  await exec('sh', ['-euc', PACKAGES, 'sh', to], { cwd: REPOSITORY });
}
