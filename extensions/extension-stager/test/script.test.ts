import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@flatcar/testing';

// The script itself, on a folder instead of the root, with stand-ins for what it calls. The real systemd-sysupdate and a real bus are in test/extension.test.ts.
const script = resolve(import.meta.dirname, '../files/usr/bin/extension-stager');

const A = '4593.2.4';
const B = '4593.2.5';
const C = '4757.2.0';

const STUBS: Readonly<Record<string, string>> = {
  // update-engine's answer, or no such name on the bus.
  busctl: 'cat "$EXTENSION_STAGER_ROOT/reply" 2>/dev/null',
  systemctl: `
echo "systemctl $*" >>"$EXTENSION_STAGER_ROOT/calls"
case $* in
  --version) echo "systemd $(cat "$EXTENSION_STAGER_ROOT/systemd") (stand-in)" ;;
  is-enabled*) cat "$EXTENSION_STAGER_ROOT/locksmithd" ;;
  is-active*) echo active ;;
  is-system-running) echo running ;;
esac`,
  'systemd-inhibit': `
echo "inhibit $*" >>"$EXTENSION_STAGER_ROOT/calls"
trap 'echo uninhibit >>"$EXTENSION_STAGER_ROOT/calls"; kill $!; exit' TERM
sleep 1000 & wait`,
  // Takes the newest image that the folder of the source holds, as sysupdate would from a server.
  'systemd-sysupdate': `
set -eu
definitions=\${1#--definitions=}
cat "$definitions"/* >>"$EXTENSION_STAGER_ROOT/definitions"
ls "$definitions" >>"$EXTENSION_STAGER_ROOT/names"
value() { sed -n "s/^$1=//p" "$definitions"/* | sed -n "\${2}p"; }
folder=$EXTENSION_STAGER_ROOT/server/$(value Path 1)
image=$(ls "$folder" | tail -n 1)
[ -n "$image" ]
target=$EXTENSION_STAGER_ROOT$(value Path 2)
mkdir -p "$target"
cp "$folder/$image" "$target/$image"
ln -sfn "../../\${target#"$EXTENSION_STAGER_ROOT/"}/$image" "$EXTENSION_STAGER_ROOT$(value CurrentSymlink 1)"`,
};

let root: string;
const running: ChildProcess[] = [];

const put = async (path: string, text: string): Promise<void> => {
  await mkdir(dirname(join(root, path)), { recursive: true });
  await writeFile(join(root, path), text);
};
const got = (path: string): Promise<string> => readFile(join(root, path), 'utf8').catch(() => '');
const there = (path: string): Promise<boolean> =>
  access(join(root, path)).then(
    () => true,
    () => false,
  );
const linkOf = (path: string): Promise<string> => readlink(join(root, path)).catch(() => 'no link');
const status = (operation: string, version: string): Promise<void> =>
  put('reply', `xdssx 1795000000 0.5 "UPDATE_STATUS_${operation}" "${version}" 500000000\n`);
const offer = (name: string, target: string, version = '1.0'): Promise<void> =>
  put(`server/${name}/${target}/${name}.${target}_${version}_x86-64.raw`, `${name} ${version} for ${target}`);

function transfer(name: string, bound: boolean): string {
  const target = bound ? '%w' : 'portable';
  return `# from %w and for %w
[Transfer]
Verify=yes

[Source]
Type=url-file
Path=${name}/${target}
MatchPattern=${name}.${target}_@v_%a.raw

[Target]
Type=regular-file
Path=/opt/extensions/${name}
MatchPattern=${name}.${target}_@v_%a.raw
CurrentSymlink=/etc/extensions/${name}${bound ? '-%w' : ''}.raw
`;
}

function start(args: readonly string[]): ChildProcess {
  const child = spawn(script, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: `${join(root, 'bin')}:${process.env['PATH']}`,
      EXTENSION_STAGER_ROOT: root,
      EXTENSION_STAGER_POLL: '0.05',
      EXTENSION_STAGER_RETRY: '1',
    },
  });
  running.push(child);
  return child;
}

async function say(...args: readonly string[]): Promise<{ code: number; said: string }> {
  const child = start(args);
  let said = '';
  child.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number];
  return { code, said };
}

interface Watcher {
  readonly said: () => string;
  readonly stop: () => Promise<void>;
}

function watch(): Watcher {
  const child = start(['watch']);
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  return {
    said: () => said,
    stop: async () => {
      child.kill('SIGTERM');
      if (child.exitCode === null) await once(child, 'close');
    },
  };
}

/** Waits until it is true; polls, as there is nothing to listen to. */
async function until(what: string, is: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 120_000; Date.now() < end;) {
    if (await is()) return;
    await new Promise((done) => {
      setTimeout(done, 30);
    });
  }
  throw new Error(`it did not come to pass: ${what}\n${await got('calls')}`);
}
const calls = async (): Promise<string[]> =>
  (await got('calls')).split('\n').filter((line) => line !== '' && line !== 'systemctl --version' && !line.startsWith('systemctl is-'));

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'stager-'));
  await mkdir(join(root, 'bin'));
  for (const [name, text] of Object.entries(STUBS)) await writeFile(join(root, 'bin', name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  await put('etc/os-release', `ID=flatcar\nVERSION_ID='${B}'\n`);
  await put('systemd', '257');
  await put('locksmithd', 'enabled');
  for (const name of ['kubernetes', 'debug-tools']) {
    await put(`etc/sysupdate.${name}.d/${name}.transfer`, transfer(name, true));
    await offer(name, B);
    await put(`opt/extensions/${name}/${name}.${B}_1.0_x86-64.raw`, 'running');
    await mkdir(join(root, 'etc/extensions'), { recursive: true });
    await symlink(`../../opt/extensions/${name}/${name}.${B}_1.0_x86-64.raw`, join(root, `etc/extensions/${name}-${B}.raw`));
  }
  await put('etc/sysupdate.portable-one.d/portable-one.transfer', transfer('portable-one', false));
  await offer('portable-one', 'portable');
  // Somebody else's component, which must be left alone.
  await put('etc/sysupdate.other.d/other.transfer', transfer('other', true).replace('/etc/extensions/', '/opt/other/'));
  await status('IDLE', '0.0.0');
});
afterEach(async () => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
  await rm(root, { recursive: true, force: true, maxRetries: 5 });
});

describe('what is fetched', () => {
  test('the images for another release, linked beside those of the running one', async () => {
    for (const name of ['kubernetes', 'debug-tools']) await offer(name, C);
    const { code } = await say('stage', C);
    expect(code).toBe(0);
    for (const name of ['kubernetes', 'debug-tools']) {
      expect(await got(`etc/extensions/${name}-${C}.raw`)).toBe(`${name} 1.0 for ${C}`);
      expect(await got(`etc/extensions/${name}-${B}.raw`)).toBe('running');
    }
    // Neither portable images, which fit any release, nor what is no extension.
    expect(await got('definitions')).not.toMatch(/portable-one|other/);
  });

  test('%w becomes the release and nothing else changes; the link is named for the release', async () => {
    await put(
      'etc/sysupdate.kubernetes.d/kubernetes.transfer',
      '[Transfer]\nVerify=yes\n[Source]\nPath=kubernetes/%w/100%%w\nMatchPattern=kubernetes.%w_@v_%a.raw\n[Target]\nCurrentSymlink=/etc/extensions/kubernetes.raw\nPath=/opt/x\n',
    );
    await say('stage', C);
    expect(await got('definitions')).toContain(
      `[Transfer]\nVerify=yes\n[Source]\nPath=kubernetes/${C}/100%%w\nMatchPattern=kubernetes.${C}_@v_%a.raw\n[Target]\nCurrentSymlink=/etc/extensions/kubernetes-${C}.raw\nPath=/opt/x\n`,
    );
  });

  test.each([
    ['256', 'kubernetes.conf'],
    ['257', 'kubernetes.transfer'],
  ])('systemd %s gets %s, once, whatever the file on the node is called', async (version, name) => {
    await put('systemd', version);
    await put('etc/sysupdate.kubernetes.d/kubernetes.conf', transfer('kubernetes', true));
    await rm(join(root, 'etc/sysupdate.debug-tools.d'), { recursive: true });
    await offer('kubernetes', C);
    expect((await say('stage', C)).code).toBe(0);
    expect(await got('names')).toBe(`${name}\n`);
  });

  test('one extension without an image does not hold up the others, and is told', async () => {
    await offer('kubernetes', C);
    const { code, said } = await say('stage', C);
    expect(code).toBe(1);
    expect(said).toContain(`debug-tools: there is no image for Flatcar ${C} yet`);
    expect(await there(`etc/extensions/kubernetes-${C}.raw`)).toBe(true);
    expect(await there(`etc/extensions/debug-tools-${C}.raw`)).toBe(false);
    expect(await readdir(join(root, 'run/extension-stager'))).toEqual(['lock']);
  });

  test.each(['', '../../etc', '4593.2', '4593.2.5.1', 'stable', '4593..5'])("'%s' is refused: not a release", async (release) => {
    const { code, said } = await say('stage', release);
    expect(code).toBe(2);
    expect(said).toContain('is not a Flatcar release');
    expect(await got('definitions')).toBe('');
  });

  test('help, and a command that is none', async () => {
    expect(await say('--help')).toMatchObject({ code: 0, said: expect.stringContaining('usage: extension-stager') as string });
    expect(await say('wait')).toMatchObject({ code: 2, said: expect.stringContaining('usage:') as string });
  });
});

describe('the reboot', () => {
  test('is held from the download on, until the images are there', async () => {
    const watcher = watch();
    await until('a first look', async () => there('var/lib/extension-stager/running'));
    expect(await calls()).toEqual([]);
    await status('DOWNLOADING', C);
    await until('the inhibitor', async () => (await calls()).some((line) => line.startsWith('inhibit')));
    expect((await calls())[0]).toMatch(
      new RegExp(`^inhibit --what=shutdown --mode=block --who=extension-stager --why=.*Flatcar ${C.replaceAll('.', '\\.')}`),
    );
    await status('UPDATED_NEED_REBOOT', C);
    await offer('kubernetes', C);
    await until('one image', () => there(`etc/extensions/kubernetes-${C}.raw`));
    expect(await calls()).toHaveLength(1);
    await offer('debug-tools', C);
    // Refused once, locksmithd sleeps for a week: it must be started again.
    await until('the end of the hold', async () => (await calls()).includes('systemctl --no-block try-restart locksmithd.service'));
    expect(await calls()).toContain('uninhibit');
    expect(await there(`etc/extensions/debug-tools-${C}.raw`)).toBe(true);
    await until('ready', () => watcher.said().includes(`ready for Flatcar ${C}`));
    await watcher.stop();
    expect((await calls()).filter((line) => line.startsWith('inhibit'))).toHaveLength(1);
  });

  test('is not held where everything is there in time', async () => {
    for (const name of ['kubernetes', 'debug-tools']) await offer(name, C);
    const watcher = watch();
    await status('UPDATE_AVAILABLE', C);
    await until('ready', () => watcher.said().includes(`ready for Flatcar ${C}`));
    await status('UPDATED_NEED_REBOOT', C);
    await until('the other slot', async () => (await got('var/lib/extension-stager/other')) === `${C}\n`);
    await watcher.stop();
    expect(await calls()).toEqual([]);
  });

  test('goes on when the time of the policy is over, and says without what', async () => {
    await put('etc/extension-stager.conf', '# seconds\nhold 2\n');
    await offer('kubernetes', C);
    await status('UPDATED_NEED_REBOOT', C);
    const watcher = watch();
    await until('the end of the hold', async () => (await calls()).includes('uninhibit'));
    expect(watcher.said()).toContain(`<4>the reboot into Flatcar ${C} goes on without the images of: debug-tools`);
    // It is tried further, and not held again.
    await offer('debug-tools', C);
    await until('the late image', () => there(`etc/extensions/debug-tools-${C}.raw`));
    await watcher.stop();
    expect((await calls()).filter((line) => line.startsWith('inhibit'))).toHaveLength(1);
  });

  test('hold never: is not held, and the images are fetched all the same', async () => {
    await put('etc/extension-stager.conf', 'hold never\n');
    await offer('kubernetes', C);
    await status('UPDATED_NEED_REBOOT', C);
    const watcher = watch();
    await until('the image', () => there(`etc/extensions/kubernetes-${C}.raw`));
    await watcher.stop();
    expect(await calls()).toEqual([]);
  });

  test('the clock goes on when the stager is started again', async () => {
    await put('etc/extension-stager.conf', 'hold 1000\n');
    await put(`run/extension-stager/since-${C}`, '1000\n');
    await status('UPDATED_NEED_REBOOT', C);
    const watcher = watch();
    await until('a try', async () => (await got('definitions')).includes(C));
    await watcher.stop();
    expect(await calls()).toEqual([]);
  });

  test.each([
    ['SIGTERM', async (watcher: Watcher) => watcher.stop()],
    [
      'an update that was given up',
      async () => {
        await status('IDLE', '0.0.0');
      },
    ],
  ])('%s lets go of it', async (_, end) => {
    await status('FINALIZING', C);
    const watcher = watch();
    await until('the inhibitor', async () => (await calls()).some((line) => line.startsWith('inhibit')));
    await end(watcher);
    await until('the end of the hold', async () => (await calls()).includes('uninhibit'));
    await watcher.stop();
  });

  test('systemd below 257: locksmithd is masked for as long, and started again', async () => {
    await put('systemd', '255');
    await status('UPDATED_NEED_REBOOT', C);
    const watcher = watch();
    await until('the mask', async () => (await calls()).includes('systemctl mask --runtime --now locksmithd.service'));
    for (const name of ['kubernetes', 'debug-tools']) await offer(name, C);
    await until('the start', async () => (await calls()).includes('systemctl --no-block start locksmithd.service'));
    await watcher.stop();
    expect(await calls()).toEqual([
      'systemctl mask --runtime --now locksmithd.service',
      'systemctl unmask --runtime locksmithd.service',
      'systemctl --no-block start locksmithd.service',
    ]);
  });

  test('systemd below 257: what a killed stager left masked is unmasked by `release`', async () => {
    await put('systemd', '255');
    await put('run/extension-stager/held', `${C}\n`);
    await put('run/extension-stager/masked', 'inactive\n');
    expect((await say('release')).code).toBe(0);
    expect(await calls()).toEqual(['systemctl unmask --runtime locksmithd.service']);
  });

  test('systemd below 257: a locksmithd that its owner masked stays so', async () => {
    await put('systemd', '255');
    await put('locksmithd', 'masked');
    await offer('kubernetes', C);
    await status('UPDATED_NEED_REBOOT', C);
    const watcher = watch();
    await until('the image', () => there(`etc/extensions/kubernetes-${C}.raw`));
    await watcher.stop();
    expect((await calls()).filter((line) => /mask|start/.test(line) && line.includes('--runtime'))).toEqual([]);
  });
});

describe('what update-engine says', () => {
  test.each(['../../../tmp/x', '4757.2.0;reboot', 'x"y', ''])("a version '%s' does nothing", async (version) => {
    await status('UPDATED_NEED_REBOOT', version);
    const watcher = watch();
    await until('a first look', async () => there('var/lib/extension-stager/running'));
    await new Promise((done) => {
      setTimeout(done, 300);
    });
    await watcher.stop();
    expect(await calls()).toEqual([]);
    expect(await got('definitions')).toBe('');
  });

  test('a restart, after which it no longer knows the version, and a moment without it change nothing', async () => {
    await status('UPDATED_NEED_REBOOT', C);
    const watcher = watch();
    await until('the inhibitor', async () => (await calls()).some((line) => line.startsWith('inhibit')));
    await rm(join(root, 'reply'));
    await offer('kubernetes', C);
    await until('an image without update-engine', () => there(`etc/extensions/kubernetes-${C}.raw`));
    await status('UPDATED_NEED_REBOOT', '0.0.0');
    await offer('debug-tools', C);
    await until('an image after its restart', () => there(`etc/extensions/debug-tools-${C}.raw`));
    await watcher.stop();
    expect((await calls()).filter((line) => line.startsWith('inhibit'))).toHaveLength(1);
  });

  test('a stager that comes after such a restart asks the answer that update-engine kept', async () => {
    await put('var/lib/update_engine/prefs/full-response', `<updatecheck status="ok"><manifest version="${C}"><packages/></manifest>`);
    await status('UPDATED_NEED_REBOOT', '0.0.0');
    expect((await say('status')).said).toContain(`next: ${C} (UPDATE_STATUS_UPDATED_NEED_REBOOT)`);
  });

  test('nothing: a node whose update-engine is masked is left alone', async () => {
    await rm(join(root, 'reply'));
    const { code, said } = await say('status');
    expect(code).toBe(0);
    expect(said).toBe(
      `running: ${B}\nnext: none\ndebug-tools for ${B}: debug-tools.${B}_1.0_x86-64.raw\nkubernetes for ${B}: kubernetes.${B}_1.0_x86-64.raw\nportable-one: no image\n`,
    );
  });
});

describe('images of releases in neither slot', () => {
  const image = (name: string, release: string): string => `opt/extensions/${name}/${name}.${release}_0.9_x86-64.raw`;
  const old = async (name: string, release: string): Promise<void> => {
    await put(image(name, release), 'old');
    await symlink(`../../${image(name, release)}`, join(root, `etc/extensions/${name}-${release}.raw`));
  };

  test('go once the next release has taken the other slot', async () => {
    await old('kubernetes', A);
    await put('var/lib/extension-stager/running', `${B}\n`);
    await put('var/lib/extension-stager/other', `${A}\n`);
    for (const name of ['kubernetes', 'debug-tools']) await offer(name, C);
    await status('DOWNLOADING', C);
    const watcher = watch();
    await until('ready', () => watcher.said().includes(`ready for Flatcar ${C}`));
    // The update may still fail: the other slot is the way back.
    expect(await linkOf(`etc/extensions/kubernetes-${A}.raw`)).not.toBe('no link');
    await status('UPDATED_NEED_REBOOT', C);
    await until('the old one gone', async () => (await linkOf(`etc/extensions/kubernetes-${A}.raw`)) === 'no link');
    await watcher.stop();
    expect(await there(image('kubernetes', A))).toBe(false);
    for (const release of [B, C]) expect(await there(`etc/extensions/kubernetes-${release}.raw`), release).toBe(true);
  });

  test('after the reboot the one before stays, for a rollback; older ones go', async () => {
    await old('kubernetes', A);
    await old('kubernetes', '4459.2.4');
    await put('var/lib/extension-stager/running', `${A}\n`);
    await put('var/lib/extension-stager/other', `${B}\n`);
    const watcher = watch();
    await until('the old one gone', async () => (await linkOf('etc/extensions/kubernetes-4459.2.4.raw')) === 'no link');
    await watcher.stop();
    expect(await got('var/lib/extension-stager/other')).toBe(`${A}\n`);
    for (const release of [A, B]) expect(await there(`etc/extensions/kubernetes-${release}.raw`), release).toBe(true);
  });

  test('stay as long as it is not known what the other slot has', async () => {
    await old('kubernetes', A);
    const watcher = watch();
    await until('a first look', async () => there('var/lib/extension-stager/running'));
    await new Promise((done) => {
      setTimeout(done, 300);
    });
    await watcher.stop();
    expect(await there(image('kubernetes', A))).toBe(true);
  });
});

describe('newer images for the running release', () => {
  test('wait for a reboot, and tell of it, unless the settings say otherwise', async () => {
    await offer('kubernetes', B, '1.1');
    const { code, said } = await say('update');
    expect(code).toBe(0);
    expect(await got(`etc/extensions/kubernetes-${B}.raw`)).toBe(`kubernetes 1.1 for ${B}`);
    expect(said).toContain(`kubernetes: kubernetes.${B}_1.1_x86-64.raw is merged at the next boot`);
    expect(await there('run/reboot-required')).toBe(true);
    expect(await calls()).toEqual([]);
  });

  test('are merged at once where the extension is to be refreshed', async () => {
    await put('etc/extension-stager.conf', 'apply kubernetes refresh\napply * reboot\n');
    await say('update'); // the portable image arrives
    await rm(join(root, 'run/reboot-required'));
    await offer('kubernetes', B, '1.1');
    expect((await say('update')).code).toBe(0);
    expect(await calls()).toEqual(['systemctl restart systemd-sysext.service']);
    expect(await there('run/reboot-required')).toBe(false);
  });

  test('nothing new changes nothing', async () => {
    await say('update');
    await rm(join(root, 'run/reboot-required'), { force: true });
    expect((await say('update')).code).toBe(0);
    expect(await there('run/reboot-required')).toBe(false);
  });

  test('a failing extension is told and does not hold up the others', async () => {
    await rm(join(root, 'server/debug-tools'), { recursive: true });
    await offer('kubernetes', B, '1.1');
    const { code, said } = await say('update');
    expect(code).toBe(1);
    expect(said).toContain('<4>debug-tools: the update failed');
    expect(await got(`etc/extensions/kubernetes-${B}.raw`)).toBe(`kubernetes 1.1 for ${B}`);
    expect(await linkOf('etc/extensions/portable-one.raw')).toContain('portable-one.portable_1.0');
  });
});
