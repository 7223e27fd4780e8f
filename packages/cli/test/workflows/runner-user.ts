import { execFile } from 'node:child_process';
import { lstat, mkdir, symlink } from 'node:fs/promises';
import { chownSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { cacheRoot, exec } from '@flatcar/core/engine';

/** The ordinary user that workflows run as: on GitHub `runner`, here whoever runs the tests, or `nobody` when that is root. */
export interface RunnerUser {
  readonly uid: number;
  readonly gid: number;
  /** Kept from one run of the tests to the next, so that tools and packages are fetched once. */
  readonly home: string;
  /** The command line that runs a program as this user. */
  as(program: string, args: readonly string[]): [program: string, args: string[]];
  /** Gives what is below a folder to this user. */
  own(dir: string): Promise<void>;
}

const NOBODY = 65_534;

/** Makes a folder of the user, and refuses one that somebody else made before. */
async function ownFolder(dir: string, uid: number, gid: number): Promise<void> {
  const made = await mkdir(dir, { mode: 0o755 }).then(
    () => true,
    () => false,
  );
  if (made) chownSync(dir, uid, gid);
  const info = await lstat(dir);
  if (!info.isDirectory() || info.uid !== uid) throw new Error(`${dir}: belongs to somebody else; remove it`);
}

/** The user that workflows run as. */
export async function runnerUser(): Promise<RunnerUser> {
  const root = process.getuid?.() === 0;
  const uid = root ? NOBODY : (process.getuid?.() ?? NOBODY);
  const gid = root ? NOBODY : (process.getgid?.() ?? NOBODY);
  const home = join(tmpdir(), `flatcar-ext-workflows-${uid}`);
  await ownFolder(home, uid, gid);
  // An ordinary user's own store will do; root's is closed to others.
  const store = join(home, '.cache/flatcar-ext');
  if (!root) {
    await mkdir(cacheRoot(), { recursive: true });
    await mkdir(dirname(store), { recursive: true });
    await symlink(cacheRoot(), store).catch(() => undefined);
  }
  return {
    uid,
    gid,
    home,
    as: (program, args) =>
      root
        ? ['setpriv', [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--no-new-privs', '--', program, ...args]]
        : [program, [...args]],
    own: async (dir) => {
      if (root) await exec('chown', ['-R', `${uid}:${gid}`, dir]);
    },
  };
}

/** What of this machine's environment a runner needs to reach the network; npm's registry is that of the configured user. */
export async function networkSettings(): Promise<Record<string, string>> {
  const { stdout } = await promisify(execFile)('npm', ['config', 'get', 'registry']);
  const passed = Object.entries(process.env).filter(
    ([key, value]) =>
      value !== undefined &&
      /^(?:(?:https?|no|all)_proxy|SSL_CERT_\w+|NODE_EXTRA_CA_CERTS|GOPROXY|GOSUMDB|FLATCAR_EXT_DEBIAN_MIRROR)$/i.test(key),
  );
  return { ...(Object.fromEntries(passed) as Record<string, string>), npm_config_registry: stdout.trim() };
}
