import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { digestOf, exec, parseJson, sidecarPaths, type Store } from '@flatcar/core/engine';
import * as v from 'valibot';
import { installWheels } from './pip.ts';

const FOLDER = join(import.meta.dirname, '../evidence');

/** Validators from PyPI, pinned in evidence/requirements.txt and kept in the store. Requires python3 with pip. */
async function validators(store: Store): Promise<string> {
  const requirements = join(FOLDER, 'requirements.txt');
  const { stdout: python } = await promisify(execFile)('python3', ['--version']);
  const key = digestOf({ number: 1, python, requirements: await readFile(requirements, 'utf8') });
  const { dir } = await store.result('test-validators', key, async (fresh) => {
    await installWheels(requirements, fresh);
  });
  return dir;
}

/**
 * Problems of the sidecars of images, empty if there are none: SPDX's own validator checks SPDX documents, and their ids and package URLs are
 * checked for being unique and canonical; the schemas of in-toto and SLSA check build records.
 */
export async function evidenceProblems(store: Store, images: readonly string[]): Promise<string[]> {
  const files = images.flatMap((image) => [sidecarPaths(image).sbom, sidecarPaths(image).provenance]);
  return sidecarProblems(store, files);
}

/** The same for sidecars by path: `*.spdx.json` or a build record. */
export async function sidecarProblems(store: Store, files: readonly string[]): Promise<string[]> {
  const said = await exec('python3', [join(FOLDER, 'check.py'), ...files], { env: { PYTHONPATH: await validators(store) } });
  return parseJson(v.array(v.string()), said, { what: 'list of problems', where: 'check.py' });
}
