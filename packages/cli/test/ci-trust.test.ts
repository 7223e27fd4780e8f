import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hostArch } from '@flatcar/core/engine';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readOutcomes } from '@flatcar/workspace/ci/outcome';
import { flatcarExt, type Ended } from './helpers/ci.ts';

// What one job uploads decides nothing about another, and what it says of itself is compared with the checkout: forged artifacts, by the
// commands of the workflow.
const EXTENSION = 'extension-stager';
const ID = `${EXTENSION}-${hostArch()}`;

let dir: string;
let payloadFolder: string;
const at = (name: string): string => join(dir, name);

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'ci-trust-'));
  expect(await flatcarExt(['keys', 'init', at('keys')])).toMatchObject({ code: 0 });
  expect(await flatcarExt(['ci', 'plan', EXTENSION, '--out', at('planned.json')])).toMatchObject({ code: 0 });
  const { include } = JSON.parse(await readFile(at('planned.json'), 'utf8')) as { include: { id: string }[] };
  const job = { ...include.find(({ id }) => id === ID), targets: ['portable'] };
  await writeFile(at('matrix.json'), JSON.stringify({ include: [job] }));
  const built = await flatcarExt(['ci', 'build', '--matrix', at('matrix.json'), '--built', at('honest')]);
  expect(built.code, built.err).toBe(0);
  payloadFolder = `payload-${ID}/payloads/${EXTENSION}/payload`;
}, 120_000);
afterAll(() => rm(dir, { recursive: true, force: true }));

let runs = 0;
/** What `ci publish` says to an artifact that was changed after it was built; nothing may be published of it. */
async function publishForged(forge: (built: string) => Promise<void>): Promise<Ended> {
  runs += 1;
  const [built, tree, images, outcomes] = ['built', 'tree', 'images', 'outcomes'].map((name) => at(`${name}${runs}`)) as [
    string,
    string,
    string,
    string,
  ];
  await cp(at('honest'), built, { recursive: true });
  await forge(built);
  const args = ['--matrix', at('matrix.json'), '--built', built, '--images', images, '--outcomes', outcomes];
  const where = ['--tree', tree, '--keys', at('keys'), '--base-url', 'https://extensions.example.org', '--checksums', at(`sums${runs}`)];
  const ended = await flatcarExt(['ci', 'publish', ...args, ...where]);
  if (ended.code !== 0) {
    expect(await readdir(tree).catch(() => [])).toEqual([]);
    expect(await readdir(at(`sums${runs}`))).toEqual([]);
    expect((await readOutcomes(outcomes)).outcomes.map(({ step, job, ok }) => `${step} ${job} ${ok}`)).toEqual([`bind ${ID} false`]);
  }
  return ended;
}

const recordName = async (built: string): Promise<string> => {
  const name = (await readdir(join(built, payloadFolder))).find((one) => one.endsWith('.payload.json'));
  return join(built, payloadFolder, name ?? 'none');
};
/** Changes fields of the record. */
const withFields =
  (fields: object) =>
  async (built: string): Promise<void> => {
    const file = await recordName(built);
    await writeFile(file, JSON.stringify({ ...(JSON.parse(await readFile(file, 'utf8')) as object), ...fields }));
  };

test('what was built is published', async () => {
  const ended = await publishForged(async () => undefined);
  expect(ended.code, ended.err).toBe(0);
  expect(await readdir(at(`tree${runs}`))).toContain('index.json');
});

describe('a record is refused', () => {
  test.each([
    ['of another version', { version: '99.0.0' }, 'version: "99.0.0", not "'],
    ['of another upstream version', { upstream: '1.0.0' }, "upstream is '1.0.0', not '"],
    ['of another extension', { extension: 'kubernetes' }, "extension is 'kubernetes', not 'extension-stager'"],
    ['whose extension is a path', { extension: '../../x' }, 'invalid payload record: extension: not a valid extension name'],
    ['of another architecture', { arch: hostArch() === 'arm64' ? 'x86-64' : 'arm64' }, 'arch is '],
    ['of a format that no target takes', { format: 'ddi' }, "format is 'ddi', not 'squashfs'"],
    ['of the profile for local work', { profile: 'fast' }, "profile is 'fast', not 'publish'"],
    ['with another key', { key: 'f'.repeat(64) }, 'key: "ffff'],
    ['that waives a rule', { waived: { 'host-file': 'because' } }, 'waived.host-file: "because", not nothing'],
    ['that hides a file of the host', { replaces: ['usr/bin/containerd'] }, 'replaces[0]: "usr/bin/containerd", not nothing'],
    ['made with other tools', { tools: [] }, 'tools[0]: nothing, not {"name"'],
    ['of other materials', { components: [] }, 'components[0]: nothing, not {"name"'],
    ['with a field of its own', { more: 1 }, 'invalid payload record: more: '],
    ['whose file leads out', { file: '../../../../x' }, 'invalid payload record: file: not a plain file name'],
    ['whose file is not beside it', { file: '../portable/x.raw' }, "its file '../portable/x.raw' is not beside it"],
    ['of other bytes', { sha256: 'a'.repeat(64) }, 'the file does not match its record'],
    ['of another size', { size: 1 }, 'the file does not match its record'],
    ['that leads bind to another block', { releaseFileOffset: 96 }, 'its release file begins at '],
  ])('%s', async (_, fields, message) => {
    const { code, err } = await publishForged(withFields(fields));
    expect(code).toBe(1);
    expect(err).toContain(message);
  });
});

describe('an artifact is refused', () => {
  const folder = (built: string): string => join(built, payloadFolder);
  test.each<[string, (built: string) => Promise<unknown>, string]>([
    [
      "with another extension's folder",
      (built) => cp(join(folder(built), '..'), join(built, `payload-${ID}/payloads/kubernetes`), { recursive: true }),
      "it may write 'extension-stager' only",
    ],
    ['with a folder of its own', (built) => mkdir(join(built, `payload-${ID}/keys`)), "it may write 'payloads' and 'outcomes' only"],
    ['with a file that no record has', (built) => writeFile(join(folder(built), 'more.raw'), 'more'), 'no record names this file'],
    [
      'with many files',
      async (built) =>
        Promise.all(Array.from({ length: 20 }, async (_, index) => writeFile(join(folder(built), `${index}.payload.json`), ''))),
      'files where it has at most 12',
    ],
    [
      'with a name that is a command to the runner',
      (built) => writeFile(join(folder(built), 'a\n::add-mask::x'), ''),
      'a name with control characters',
    ],
    [
      'with two payloads of one kind',
      async (built) => writeFile(join(folder(built), 'a.payload.json'), await readFile(await recordName(built))),
      'a second payload of ',
    ],
    [
      'whose payload has the name of an image',
      async (built) => {
        const record = await recordName(built);
        const payload = JSON.parse(await readFile(record, 'utf8')) as { file: string };
        await rename(join(folder(built), payload.file), join(folder(built), 'x.raw'));
        await writeFile(record, JSON.stringify({ ...payload, file: 'x.raw' }));
      },
      "its file 'x.raw' is not beside it",
    ],
    [
      'whose payload is a link',
      async (built) => {
        const name = (await readdir(folder(built))).find((one) => one.endsWith('.squashfs')) ?? '';
        await rename(join(folder(built), name), join(built, 'elsewhere'));
        await symlink('../../../../elsewhere', join(folder(built), name));
      },
      'not a plain file',
    ],
    [
      'whose folder is a link',
      async (built) => {
        await rename(folder(built), join(built, 'elsewhere'));
        await symlink('../../../elsewhere', folder(built));
      },
      'not a plain folder',
    ],
    [
      'whose payload fills the disk',
      async (built) => {
        const name = (await readdir(folder(built))).find((one) => one.endsWith('.squashfs')) ?? '';
        await truncate(join(folder(built), name), 5 * 2 ** 30);
      },
      'bytes, more than ',
    ],
    ['without its payload', (built) => rm(join(built, `payload-${ID}/payloads`), { recursive: true }), 'was not built'],
    ['under the name of another job', (built) => rename(join(built, `payload-${ID}`), join(built, `payload-${ID}-2`)), 'was not built'],
  ])('%s', async (_, forge, message) => {
    const { code, err } = await publishForged(async (built) => void (await forge(built)));
    expect(code).toBe(1);
    expect(err).toContain(message);
  });
});

test('one extension whose artifact is forged holds back no other', async () => {
  const { include } = JSON.parse(await readFile(at('matrix.json'), 'utf8')) as { include: { versions: string }[] };
  const other = { ...include[0], id: `hardening-${hostArch()}`, extension: 'hardening', versions: ['9.9.9'] };
  await writeFile(at('two.json'), JSON.stringify({ include: [other, ...include] }));
  await cp(at('honest'), at('both'), { recursive: true });
  // The other one brings a payload of this one: it is not taken, and this one's own is.
  await cp(join(at('honest'), `payload-${ID}`), join(at('both'), `payload-hardening-${hostArch()}`), { recursive: true });
  const where = ['--tree', at('tree-of-both'), '--keys', at('keys'), '--base-url', 'https://extensions.example.org'];
  const flags = ['--built', at('both'), '--images', at('images-of-both'), '--outcomes', at('outcomes-of-both')];
  const { code, err } = await flatcarExt(['ci', 'publish', '--matrix', at('two.json'), ...flags, ...where]);
  expect(code).toBe(1);
  expect(err).toContain("it may write 'hardening' only");
  expect(await readdir(at(`tree-of-both`))).toEqual(expect.arrayContaining(['extension-stager', 'index.json']));
  expect(await readdir(at(`tree-of-both`))).not.toContain('hardening');
});

describe('outcomes', () => {
  test.each([
    ['outcomes-build-hardening-arm64', { step: 'build', job: 'hardening-x86-64', extension: 'hardening' }, 'reports on the job'],
    ['outcomes-build-hardening-arm64', { step: 'publish', job: 'hardening-arm64', extension: 'hardening' }, 'reports the step'],
    ['outcomes-publish-hardening', { step: 'publish', job: 'yq-arm64', extension: 'yq' }, "reports on 'yq'"],
    ['outcomes-publish-hardening', { step: 'build', job: 'hardening-arm64', extension: 'hardening' }, 'reports the step'],
    ['outcomes-bind', { step: 'build', job: 'hardening-arm64', extension: 'hardening' }, 'reports the step'],
    ['outcomes-build-hardening-arm64', { step: 'build', job: 'hardening-arm64', extension: 'hardening' }, undefined],
    ['outcomes-publish-hardening', { step: 'bind', job: 'hardening-arm64', extension: 'hardening' }, undefined],
    ['outcomes-bind', { step: 'publish', job: 'yq-arm64', extension: 'yq' }, undefined],
    ['outcomes', { step: 'update', extension: 'yq' }, undefined],
  ])('in the artifact %s: %j', async (artifact, about, why) => {
    const folder = await mkdtemp(join(dir, 'artifacts-'));
    await mkdir(join(folder, artifact));
    await writeFile(join(folder, artifact, 'a.outcome.json'), JSON.stringify({ ...about, what: '', ok: true }));
    const { outcomes, rejected } = await readOutcomes(folder);
    expect(outcomes).toHaveLength(why === undefined ? 1 : 0);
    expect(rejected.map((one) => one.why)).toEqual(why === undefined ? [] : [expect.stringContaining(why)]);
  });

  const outcome = { step: 'build', job: 'hardening-arm64', extension: 'hardening', what: 'arm64', ok: true };
  test.each([
    ['of another job', { ...outcome, job: 'kubernetes-arm64' }, "the job 'hardening-arm64' reports on the job 'kubernetes-arm64'"],
    ['of a step that it has not', { ...outcome, step: 'publish' }, "the job 'hardening-arm64' builds, and reports the step 'publish'"],
    ['whose extension is a sentence', { ...outcome, extension: 'all is lost, read http://x' }, 'not a valid extension name'],
    ['with more fields', { ...outcome, title: 'x' }, 'title'],
    ['of a megabyte', { ...outcome, ok: false, error: 'x'.repeat(1 << 20) }, 'at most 64 KiB'],
  ])('%s do not count, and end nothing', async (_, forged, why) => {
    const folder = await mkdtemp(join(dir, 'forged-'));
    // The artifact that is published from, and the one that the report reads.
    for (const artifact of ['payload-hardening-arm64/outcomes', 'outcomes-build-hardening-arm64']) {
      const at = join(folder, artifact.split('-')[0] ?? '', artifact);
      await mkdir(at, { recursive: true });
      await writeFile(join(at, 'a.outcome.json'), JSON.stringify(forged));
      await writeFile(join(at, 'b.outcome.json'), JSON.stringify(outcome));
      await writeFile(join(at, 'c.outcome.json'), '{');
      const { outcomes, rejected } = await readOutcomes(join(folder, artifact.split('-')[0] ?? ''));
      expect(outcomes, artifact).toEqual([outcome]);
      expect(rejected, artifact).toHaveLength(2);
      expect(rejected[0]?.why, artifact).toContain(why);
    }
  });
});
