// The commands that steps of the workflows run, and the environment that they run in.
import { expect, test } from 'vitest';
import { buildArguments, foldersOf } from '@flatcar/workspace/ci/build';
import type { Job } from '@flatcar/workspace/ci/job';
import { publishArguments } from '@flatcar/workspace/ci/publish';
import { stepEnvironment, updateSteps } from '@flatcar/workspace/ci/update';
import { withEnv } from './helpers/env.ts';

const job: Job = {
  id: 'tool-arm64',
  extension: 'tool',
  architecture: 'arm64',
  from: 'build',
  versions: ['1.0', '0.9'],
  targets: ['portable', '4593.2.5'],
};
const output = { tell: () => undefined, fence: () => ({ end: () => undefined }) };

test('a job is built for publishing, all versions and targets at once, payloads only', () => {
  expect(buildArguments(job, 'upstream', '/out').join(' ')).toBe(
    'build tool@1.0 tool@0.9 --arch arm64 --release portable,4593.2.5 --payloads-only --profile publish --origin upstream --out /out',
  );
});

test('one job has folders for an artifact of its own; jobs of a matrix have a folder each, as ci publish reads them', () => {
  expect(foldersOf(job, { out: '/p', outcomes: '/o' })).toEqual({ out: '/p', outcomes: '/o' });
  expect(foldersOf(job, { built: '/built' })).toEqual({
    out: '/built/payload-tool-arm64/payloads',
    outcomes: '/built/payload-tool-arm64/outcomes',
  });
});

test('publish gets the flags that are set; an empty variable of a workflow is absent', () => {
  const folders = { built: '/b', images: '/i', outcomes: '/o', output };
  const options = {
    ...folders,
    tree: '/tree',
    baseUrl: '',
    root: '/root',
    keyring: 'k.gpg',
    readFrom: 'https://x',
    firstPublish: true,
    unsigned: false,
  };
  expect(publishArguments(options)).toEqual(['--tree', '/tree', '--root', '/root', '--keyring', 'k.gpg', '--first-publish']);
});

test('a step with the read proxy has its address and no secret; with a mirror it keeps the mirror', async () => {
  await withEnv({ GITHUB_TOKEN: 'secret', FLATCAR_EXT_MIRROR: undefined, NO_PROXY: undefined, no_proxy: 'example.org' }, async () => {
    const env = stepEnvironment('http://127.0.0.1:1');
    expect(env).toMatchObject({ GITHUB_API_URL: 'http://127.0.0.1:1', no_proxy: 'example.org,127.0.0.1' });
    expect(Object.values(env)).not.toContain('secret');
  });
  await withEnv({ FLATCAR_EXT_MIRROR: 'http://mirror', GITHUB_API_URL: 'https://api.github.com' }, async () => {
    expect(stepEnvironment('http://127.0.0.1:1')['GITHUB_API_URL']).not.toBe('http://127.0.0.1:1');
  });
});

test('without names every extension is updated, and the Flatcar releases first; an unknown name is a usage error', async () => {
  const all = await updateSteps([], false);
  expect(all[0]).toMatchObject({ name: 'releases', args: ['releases', 'update'] });
  expect(all.length).toBeGreaterThan(20);
  const [only, ...more] = await updateSteps(['yq'], true);
  expect(more).toEqual([]);
  expect(only).toMatchObject({ name: 'yq', args: ['bump', 'yq', '--json'], mayShare: false });
  await expect(updateSteps(['yq', 'no-such'], true)).rejects.toThrow("there is no extension 'no-such'");
});
