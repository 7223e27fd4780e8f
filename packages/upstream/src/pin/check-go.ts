import { mkdtemp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  copyPublic,
  goSumDigest,
  lockModuleDir,
  openGo,
  parseJson,
  UnreachableError,
  UserError,
  type GoCommand,
  type GoOrigin,
  type Store,
} from '@flatcar/core/engine';
import * as v from 'valibot';
import { memoize, type UpstreamContext } from '../context.ts';
import type { Bytes } from './request.ts';
import type { Wanted } from './wanted.ts';

/** What `go mod download -json` prints for a module. */
const Download = v.object({ Path: v.string(), Version: v.string(), Sum: v.string(), GoModSum: v.string() });

/** The sums of modules in the proxy and the checksum database, by `path version` and `path version/go.mod`. */
async function downloadSums(go: GoCommand, cwd: string, modules: readonly string[]): Promise<Map<string, string>> {
  const env = { GOFLAGS: '-mod=mod -modcacherw' };
  const output = await go.online(['mod', 'download', '-json', ...modules], { cwd, env });
  const sums = new Map<string, string>();
  const list = `[${output.replaceAll(/^\}\n\{$/gm, '},{')}]`;
  for (const one of parseJson(v.array(Download), list, { what: 'output of go mod download', where: cwd })) {
    sums.set(`${one.Path} ${one.Version}`, one.Sum);
    sums.set(`${one.Path} ${one.Version}/go.mod`, one.GoModSum);
  }
  return sums;
}

/** The sums of a go.sum, by `path version` and `path version/go.mod`. */
export const readSums = (text: string): [key: string, sum: string][] =>
  text.split('\n').flatMap((line): [string, string][] => {
    const [path, version, sum] = line.split(' ');
    return path === undefined || version === undefined || sum === undefined ? [] : [[`${path} ${version}`, sum]];
  });

/** The sums of everything in a lock module's go.sum, derived without that file: Go trusts an existing one. */
async function deriveSums(
  go: GoCommand,
  lockModule: string,
  pinned: readonly (readonly [key: string, sum: string])[],
  store: Store,
): Promise<Map<string, string>> {
  return store.withTemp(async (temp) => {
    const dir = await mkdtemp(join(temp, 'module-'));
    await copyPublic(join(lockModule, 'go.mod'), join(dir, 'go.mod'));
    const sums = await downloadSums(go, dir, []);
    await go.online(['list', '-m', 'all'], { cwd: dir, env: { GOFLAGS: '-mod=mod -modcacherw' } });
    for (const [key, sum] of readSums(await readFile(join(dir, 'go.sum'), 'utf8').catch(() => ''))) sums.set(key, sum);
    // go.sum also has what only tests of modules need, which a build does not download.
    const keys = pinned.map(([key]) => key).filter((key) => !sums.has(key));
    const missing = [...new Set(keys.map((key) => key.replace(/\/go\.mod$/, '').replace(' ', '@')))];
    const empty = await mkdtemp(join(temp, 'empty-'));
    for (let index = 0; index < missing.length; index += 100)
      for (const [key, sum] of await downloadSums(go, empty, missing.slice(index, index + 100))) sums.set(key, sum);
    return sums;
  });
}

/**
 * Compares a lock module's go.sum with the checksum database. Throws a UserError if the lock module is not the pinned one or has another sum,
 * and an UnreachableError if the database is switched off.
 */
export async function checkGoSums(origin: GoOrigin, { component, lock }: Wanted, pinned: Bytes, context: UpstreamContext): Promise<void> {
  const lockModule = lockModuleDir(lock.dir, origin.module, origin.version ?? component.version);
  const actual = await goSumDigest(lockModule);
  if (actual !== pinned.sha256) throw new UserError(`go.sum has the sha256 ${actual}`, { where: lockModule });
  const { store, tools, report } = context;
  const go = await memoize(context, 'go', () => openGo(store, tools, report));
  const output = await go.online(['env', '-json', 'GOSUMDB', 'GONOSUMDB', 'GOFLAGS']);
  const settings = parseJson(v.record(v.string(), v.string()), output, { what: 'output of go env', where: lockModule });
  if (settings['GOSUMDB'] === 'off')
    throw new UnreachableError('the checksum database is switched off (GOSUMDB=off)', { where: lockModule, next: 'unset GOSUMDB' });
  report({ type: 'step', text: `comparing the sums of ${origin.module}` });
  const sums = readSums(await readFile(join(lockModule, 'go.sum'), 'utf8'));
  const derived = await deriveSums(go, lockModule, sums, store);
  const wrong = sums.find(([key, sum]) => derived.get(key) !== sum);
  if (wrong !== undefined)
    throw new UserError(`go.sum has another sum for ${wrong[0]} than the checksum database`, {
      where: join(lockModule, 'go.sum'),
      next: 'do not merge this',
    });
}
