import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { digestOf, exec, networkEnv, sidecarPaths, type Store } from '@flatcar/core/engine';

const FOLDER = join(import.meta.dirname, '../evidence');

/** Validators out of PyPI, by the digests in evidence/requirements.txt; kept in the store. Needs python3 with pip. */
async function validators(store: Store): Promise<string> {
  const requirements = join(FOLDER, 'requirements.txt');
  const { stdout: python } = await promisify(execFile)('python3', ['--version']);
  const key = digestOf({ number: 1, python, requirements: await readFile(requirements, 'utf8') });
  const { dir } = await store.result('test-validators', key, async (fresh) => {
    await exec(
      'python3',
      [
        '-m',
        'pip',
        'install',
        '--quiet',
        '--no-deps',
        '--require-hashes',
        '--only-binary',
        ':all:',
        '--target',
        fresh,
        '--requirement',
        requirements,
      ],
      { env: { ...networkEnv(), PIP_DISABLE_PIP_VERSION_CHECK: '1', PIP_ROOT_USER_ACTION: 'ignore' }, install: 'install python3-pip' },
    );
  });
  return dir;
}

/**
 * What is wrong with the sidecars of images: SPDX documents by SPDX's own validator, with unique ids and canonical package URLs, and build records
 * by the schemas of in-toto and SLSA. Empty when nothing is.
 */
export async function evidenceProblems(store: Store, images: readonly string[]): Promise<string[]> {
  const files = images.flatMap((image) => [sidecarPaths(image).sbom, sidecarPaths(image).provenance]);
  return sidecarProblems(store, files);
}

/** The same for sidecars by their own paths: `*.spdx.json` or a build record. */
export async function sidecarProblems(store: Store, files: readonly string[]): Promise<string[]> {
  const said = await exec('python3', [join(FOLDER, 'check.py'), ...files], { env: { PYTHONPATH: await validators(store) } });
  return JSON.parse(said) as string[];
}
