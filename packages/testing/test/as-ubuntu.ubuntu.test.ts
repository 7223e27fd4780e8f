// scripts/as-ubuntu: an ordinary user of a fresh Ubuntu lints, builds, binds and publishes; and what that user sees of the host.
import { execFile } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { DEFAULT_MIRROR } from '@flatcar/core/engine';
import { describe, expect, mergeTest, test } from '../src/index.ts';

const run = promisify(execFile);
const repository = join(import.meta.dirname, '../../..');

/** Runs the script and gives both outputs, whatever the exit code. */
async function asUbuntu(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<{ code: number; said: string }> {
  return run(join(repository, 'scripts/as-ubuntu'), args, { env: { ...process.env, ...env }, maxBuffer: 64 << 20 }).then(
    ({ stdout, stderr }) => ({ code: 0, said: stdout + stderr }),
    (error: { code?: number; stdout?: string; stderr?: string }) => ({ code: error.code ?? -1, said: `${error.stdout}${error.stderr}` }),
  );
}

describe('as-ubuntu', () => {
  test('says what it does, and refuses what it does not know', async () => {
    const { code, said } = await asUbuntu(['--help']);
    expect(code).toBe(0);
    for (const word of ['--here', '--umask', '--host-mirror', 'needs root']) expect(said).toContain(word);
    expect(await asUbuntu(['--nothing'])).toMatchObject({ code: 2, said: expect.stringContaining("unknown option '--nothing'") as string });
    expect(await asUbuntu(['--umask', '9'])).toMatchObject({ code: 2, said: expect.stringContaining('not a valid umask') as string });
  });

  mergeTest(
    'shows an ordinary user of Ubuntu: its os-release and sources, no Debian keys, a clean environment, a home of its own',
    async () => {
      const look = `
      . /etc/os-release; echo "os $ID $VERSION_ID"
      echo "user $(id -u) $(id -un) groups $(id -G)"
      echo "umask $(umask)"
      echo "sources $(cat /etc/apt/sources.list /etc/apt/sources.list.d/* | sed -n 's/^URIs: //p' | tr '\\n' ' ')"
      echo "keys $(ls /usr/share/keyrings /etc/apt/trusted.gpg.d | grep -c '^debian')"
      echo "makers $(command -v debootstrap mmdebstrap)"
      echo "store $(ls ~/.cache 2>/dev/null)"
      echo "mode $(stat -c '%a %U' ~)"
      env | sed 's/=.*//' | sort | sed 's/^/env /'
    `;
      const { code, said } = await asUbuntu(['--umask', '077', '--', 'sh', '-c', look], {
        GOFLAGS: '-mod=mod',
        FLATCAR_EXT_CACHE: '/nowhere',
      });
      expect(code, said).toBe(0);
      for (const line of [
        'os ubuntu 24.04',
        'user 61024 ubuntu-user groups 61024',
        'umask 0077',
        'sources http://archive.ubuntu.com/ubuntu/ http://security.ubuntu.com/ubuntu/ ',
        'keys 0',
        'makers ',
        'store ',
        'mode 750 ubuntu-user',
      ])
        expect(said.split('\n')).toContain(line);
      expect(said).toContain('env HOME');
      for (const name of ['GOFLAGS', 'FLATCAR_EXT_CACHE', 'FLATCAR_EXT_DEBIAN_MIRROR']) expect(said).not.toContain(`env ${name}`);
    },
  );

  mergeTest('the user has no mirror but the built-in one; --host-mirror passes that of this host', async () => {
    const ask = `import { debianMirror } from '@flatcar/core/engine'; console.log('mirror', await debianMirror())`;
    const command = ['--', 'scripts/run', 'node', '--input-type=module', '--eval', ask];
    expect((await asUbuntu(command)).said).toContain(`mirror ${DEFAULT_MIRROR}\n`);
    const own = 'http://127.0.0.1:9/debian'; // nothing is asked of it
    expect((await asUbuntu(['--host-mirror', ...command], { FLATCAR_EXT_DEBIAN_MIRROR: own })).said).toContain(`mirror ${own}\n`);
  });

  mergeTest("hands the command's exit code on, and leaves nothing behind", async () => {
    const there = async (): Promise<string[]> => (await readdir('/var/tmp')).filter((name) => name.startsWith('as-ubuntu.'));
    const before = await there();
    expect((await asUbuntu(['--', 'sh', '-c', 'exit 7'])).code).toBe(7);
    expect((await there()).filter((name) => !before.includes(name))).toEqual([]);
  });

  // The user and the umask of Ubuntu, then the strictest that people set. What fails is printed with the end of its output.
  for (const umask of ['022', '077'])
    mergeTest(`lint, build, bind and publish pass under umask ${umask}`, async () => {
      const { code, said } = await asUbuntu(['--umask', umask, '--host-mirror']);
      console.error(said);
      expect(code, said).toBe(0);
      expect(said).toContain('all steps passed');
    });
});
