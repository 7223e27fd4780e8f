import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { archWords, hostArch } from '@flatcar/core/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Job } from '@flatcar/workspace/ci/job';
import { readOutcomes } from '@flatcar/workspace/ci/outcome';
import { flatcarExt } from './helpers/ci.ts';

const STABLE = '4593.2.5';
const OLDER = '4593.2.4';
const BETA = '4757.1.0'; // takes disk images

let dir: string;
const at = (name: string): string => join(dir, name);
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'ci-release-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const matrix = async (file: string, include: readonly object[]): Promise<void> => writeFile(at(file), JSON.stringify({ include }));
const filesBelow = async (folder: string): Promise<string[]> =>
  (await readdir(folder, { recursive: true, withFileTypes: true })).flatMap((entry) =>
    entry.isFile() ? [join(entry.parentPath, entry.name).slice(folder.length + 1)] : [],
  );

test('a release by its steps: an extension that fails holds back no other, and what is published is bound to one more release', async () => {
  const outputs = { GITHUB_OUTPUT: at('output'), GITHUB_STEP_SUMMARY: at('summary') };
  await writeFile(outputs.GITHUB_OUTPUT, '');
  await writeFile(outputs.GITHUB_STEP_SUMMARY, '');
  expect(await flatcarExt(['keys', 'init', at('keys')])).toMatchObject({ code: 0 });

  const planned = await flatcarExt(['ci', 'plan', ' extension-stager ', '--out', at('matrix.json')], outputs);
  expect(planned.code, planned.err).toBe(0);
  const { include } = JSON.parse(await readFile(at('matrix.json'), 'utf8')) as { include: Job[] };
  const job = include.find(({ architecture }) => architecture === hostArch());
  expect(job).toMatchObject({ id: `extension-stager-${hostArch()}`, extension: 'extension-stager', from: 'build' });
  const output = await readFile(outputs.GITHUB_OUTPUT, 'utf8');
  expect(output).toMatch(/^build<<.*\n2$/m); // two architectures
  expect(output).toMatch(/^bind<<.*\n0$/m);
  expect(output).toMatch(/^extensions<<.*\n\["extension-stager"\]$/m);
  expect(output).toContain(JSON.stringify({ include }));

  // Of its targets one of each format will do; and another extension, whose build comes to nothing.
  const first = { ...job, targets: ['portable', STABLE, BETA] };
  const second = { ...job, id: `kubernetes-${hostArch()}`, extension: 'kubernetes', versions: ['9.9.9'] };
  await matrix('matrix.json', [first, second]);
  const run = ['--matrix', at('matrix.json'), '--built', at('built'), '--outcomes', at('outcomes')];
  const built = await flatcarExt(['ci', 'build', '--matrix', at('matrix.json'), '--built', at('built')], outputs);
  expect(built).toMatchObject({ code: 1 });
  expect(built.err).toContain(`could not be built: kubernetes-${hostArch()}`);
  expect(built.err).toContain('kubernetes 9.9.9 is not pinned');

  // The artifact of a job holds payloads and their records, and no image.
  const artifact = at(`built/payload-${first.id}`);
  const files = await filesBelow(artifact);
  expect(files.toSorted().map((name) => name.replace(/extension-stager_[^/]*\.(?=squashfs|ddi)/, '*.'))).toEqual([
    `outcomes/build-${first.id}.outcome.json`,
    'payloads/extension-stager/payload/*.ddi',
    'payloads/extension-stager/payload/*.ddi.payload.json',
    'payloads/extension-stager/payload/*.squashfs',
    'payloads/extension-stager/payload/*.squashfs.payload.json',
  ]);
  const sizes = await Promise.all(files.map(async (name) => (await stat(join(artifact, name))).size));
  const records = files.filter((name) => name.endsWith('.payload.json'));
  const payloads = await Promise.all(
    records.map(async (name) => (JSON.parse(await readFile(join(artifact, name), 'utf8')) as { size: number }).size),
  );
  const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);
  expect(sum(sizes)).toBeLessThanOrEqual(
    sum(payloads) + sum(await Promise.all(records.map(async (name) => (await stat(join(artifact, name))).size))) + 1000,
  );

  const bound = await flatcarExt(['ci', 'bind', ...run, '--out', at('images')], {
    ...outputs,
    FLATCAR_EXT_ROOTHASH_KEY: await readFile(at('keys/roothash.key'), 'utf8'),
    FLATCAR_EXT_ROOTHASH_CERTIFICATE: await readFile(at('keys/roothash.crt'), 'utf8'),
  });
  expect(bound.code).toBe(1);
  expect(bound.err).toContain(`could not be bound: kubernetes-${hostArch()}`);
  expect((await readdir(at('images/extension-stager'))).toSorted()).toEqual([STABLE, BETA, 'portable']);
  const manifest = (await readdir(at(`images/extension-stager/${BETA}`))).find((name) => name.endsWith('.manifest.json'));
  expect(await readFile(at(`images/extension-stager/${BETA}/${manifest}`), 'utf8')).toMatch(/"signed": true/);

  const where = ['--tree', at('tree'), '--keys', at('keys'), '--base-url', 'https://extensions.example.org'];
  const published = await flatcarExt(['ci', 'publish', ...run, ...where, '--images', at('bound'), '--checksums', at('sums')], outputs);
  expect(published.code).toBe(1);
  expect(published.err).toContain('failed: kubernetes');
  expect(await readdir(at('tree')), published.err).toContain('index.json');
  expect(await readdir(at('bound'))).toEqual([]); // what is published takes no room
  const lines = (await readFile(at('sums/subjects-1.sha256'), 'utf8')).trim().split('\n');
  expect(lines.map((line) => line.split('  ')[1]?.split('/')[1]).toSorted()).toEqual([STABLE, BETA, 'portable']);
  const sums = await readFile(at('tree/extension-stager/portable/SHA256SUMS'), 'utf8');
  expect(lines.some((line) => sums.includes(line.split('  ')[0] ?? 'none'))).toBe(true);
  expect(await readFile(outputs.GITHUB_OUTPUT, 'utf8')).toMatch(/^published<<.*\n3$/m);

  const { outcomes, rejected } = await readOutcomes(dir);
  expect(rejected).toEqual([]);
  expect(outcomes.map(({ step, job: id, ok }) => `${step} ${id} ${ok}`).toSorted()).toEqual([
    `bind ${first.id} true`,
    `bind ${second.id} false`,
    `build ${first.id} true`,
    `build ${second.id} false`,
    `publish ${first.id} true`,
  ]);
  expect(await readFile(outputs.GITHUB_STEP_SUMMARY, 'utf8')).toContain('kubernetes 9.9.9 is not pinned');

  // One more release: bound out of what is published, by nothing but the matrix, and published by keys of the environment.
  const more = { ...first, from: 'published', targets: [OLDER] };
  await matrix('more.json', [more, second]);
  const secrets = await keysOfEnvironment();
  const later = ['--matrix', at('more.json'), '--built', at('none'), '--outcomes', at('later'), '--images', at('bound')];
  const trust = ['--tree', at('tree'), '--root', at('keys/metadata')];
  const added = await flatcarExt(['ci', 'publish', ...later, ...trust, '--bind-only'], secrets);
  expect(added.code, added.err).toBe(0);
  expect((await readOutcomes(at('later'))).outcomes.map(({ step, ok }) => `${step} ${ok}`).toSorted()).toEqual([
    'bind true',
    'publish true',
  ]);
  expect(await readdir(at(`tree/extension-stager/${OLDER}`))).toContain('SHA256SUMS');
  expect(await readdir(at(`tree/${archWords(hostArch()).board}/${OLDER}`))).toContain('flatcar-extension-stager.gz');
  expect(added.out + added.err).not.toMatch(/PRIVATE KEY/);
  // A broken one is refused, and not shown.
  const broken = { ...secrets, FLATCAR_EXT_UPDATE_KEY: secrets.FLATCAR_EXT_UPDATE_KEY.replace('MII', 'XII') };
  const refused = await flatcarExt(['publish', '--tree', at('tree'), '--root', at('keys/metadata')], broken);
  expect(refused).toMatchObject({ code: 1, err: expect.stringContaining('environment variable FLATCAR_EXT_UPDATE_KEY') });
  expect(refused.err).not.toContain(broken.FLATCAR_EXT_UPDATE_KEY.split('\n')[3]);

  // The same images are planned no more.
  const again = await flatcarExt([
    'plan',
    'extension-stager',
    '--tree',
    at('tree'),
    '--keys',
    at('keys'),
    '--release',
    `portable,${STABLE},${OLDER},${BETA}`,
    '--arch',
    hostArch(),
  ]);
  expect(again.out).toContain('nothing is missing');
}, 600_000);

/** Keys as secrets of a workflow are given: each in a variable. */
async function keysOfEnvironment(): Promise<Record<'FLATCAR_EXT_SUMS_KEY' | 'FLATCAR_EXT_UPDATE_KEY', string>> {
  const sums = (await readdir(at('keys/sums'))).find((name) => name.endsWith('.key.asc'));
  const update = (await readdir(at('keys/update'))).find((name) => name.endsWith('.key.pem'));
  return {
    FLATCAR_EXT_SUMS_KEY: await readFile(at(`keys/sums/${sums}`), 'utf8'),
    FLATCAR_EXT_UPDATE_KEY: await readFile(at(`keys/update/${update}`), 'utf8'),
    ...Object.fromEntries(
      await Promise.all(
        ['targets', 'snapshot', 'timestamp'].map(async (role) => [
          `FLATCAR_EXT_${role.toUpperCase()}_KEY`,
          await readFile(at(`keys/metadata/${role}-1.key.pem`), 'utf8'),
        ]),
      ),
    ),
  };
}
