/*
 * Runs tests in a copy of the checkout whose catalogue of Flatcar releases is another one: every channel has new releases, and none of today's
 * is left. A pull request of `flatcar-ext releases update` must turn no test red, on that day or later.
 *
 *   node scripts/test/catalogue-change.ts [arguments of vitest…]
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { catalogue, exec, type Release } from '@flatcar/core/engine';
import { execa } from 'execa';

const repository = resolve(import.meta.dirname, '../..');

/** Each channel moves on by one major, which takes disk images, as its successor did; LTS has the major of today's stable. */
export function nextCatalogue(today: readonly Release[]): Release[] {
  const newest = (channel: Release['channel']): Release => {
    const found = today.find((one) => one.channel === channel);
    if (found === undefined) throw new Error(`no release of ${channel}`);
    return found;
  };
  const like = { stable: newest('beta'), beta: newest('alpha'), alpha: newest('alpha'), lts: newest('stable') };
  const major = (release: Release): number => Number(release.number.split('.')[0]);
  const numbers = {
    stable: [major(like.stable), 2],
    beta: [major(like.beta) + 30, 1],
    alpha: [major(like.alpha) + 60, 0],
    lts: [major(like.lts), 3],
  } as const;
  return (Object.keys(like) as (keyof typeof like)[]).flatMap((channel) =>
    [4, 3, 2, 1, 0].map((patch) => ({ ...like[channel], channel, number: `${numbers[channel].join('.')}.${patch}`, date: '2027-06-01' })),
  );
}

const dir = await mkdtemp(join(tmpdir(), 'catalogue-'));
try {
  const copy =
    'git ls-files -co --exclude-standard -z | tar --null --ignore-failed-read -T - -cf - | tar -xf - -C "$1"; cp -al node_modules "$1"; cp -al scripts/toolchain/node_modules "$1/scripts/toolchain"';
  await exec('sh', ['-euc', copy, 'sh', dir], { cwd: repository });
  await exec('git', ['init', '--quiet'], { cwd: dir });
  await writeFile(join(dir, 'packages/core/src/model/data/releases.json'), `${JSON.stringify(nextCatalogue(catalogue()), undefined, 2)}\n`);
  await exec('git', ['add', '--all'], { cwd: dir });
  await exec('git', ['-c', 'user.name=t', '-c', 'user.email=t@t', 'commit', '--quiet', '--message', 'other releases'], { cwd: dir });
  const args = process.argv.slice(2);
  const { exitCode } = await execa(join(dir, 'scripts/run'), ['vitest', 'run', ...(args.length === 0 ? ['--project', 'unit'] : args)], {
    cwd: dir,
    stdio: 'inherit',
    reject: false,
    // Nothing of the caller's own catalogue.
    env: { FLATCAR_EXT_RELEASES: '', PATH: `${join(dir, 'node_modules/.bin')}:${process.env['PATH'] ?? ''}` },
  });
  process.exitCode = exitCode ?? 1;
} finally {
  await rm(dir, { recursive: true, force: true });
}
