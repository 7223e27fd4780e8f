import { chmod, copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hostArch } from '../src/model/arch.ts';
import { UserErrors, type UserError } from '../src/util/errors.ts';
import { defineExtension } from '../src/definition/builders.ts';
import type { ExtensionDefinition } from '../src/definition/types.ts';
import { checkCompatibility } from '../src/lint/compatibility.ts';
import { buildExtension, type BuildResult } from '../src/pipeline/build.ts';
import { openStore } from '../src/store/store.ts';
import { openTools } from '../src/tools/tools.ts';
import type { Event } from '../src/util/events.ts';
import type { Target } from '../src/model/target.ts';
import { targetOf } from './helpers/targets.ts';

// Whatever a build finds is shown, with the file and line of the checkout.
const tools = openTools(openStore());
let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'findings-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

let count = 0;
/** Builds an extension of nothing but files of its own; a text that begins with `->` is a link. */
async function build(
  files: Readonly<Record<string, string | { copy: string }>>,
  about: Partial<ExtensionDefinition> & { version?: string; targets?: readonly Target[] } = {},
): Promise<{ result: Promise<BuildResult>; at: string; events: Event[] }> {
  count += 1;
  const at = join(dir, `e${count}`);
  for (const [path, what] of Object.entries(files)) {
    const file = join(at, 'files', path);
    await mkdir(dirname(file), { recursive: true });
    if (typeof what === 'object') {
      await copyFile(what.copy, file);
      await chmod(file, 0o755);
    } else if (what.startsWith('->')) await symlink(what.slice(2), file);
    else await writeFile(file, what);
  }
  await writeFile(join(at, 'extension.ts'), "export default defineExtension({\n  name: 'demo',\n});\n");
  const { version = '1.0', targets = ['portable'], ...definition } = about;
  const events: Event[] = [];
  const extension = defineExtension({
    name: 'demo',
    summary: 'a demonstration',
    versions: { kind: 'date', track: 'newest' },
    components: () => [],
    ...definition,
  });
  const loaded = { dir: at, fixture: false, extension, pins: { [version]: { revision: 0, coupled: {}, licenses: {}, bytes: {} } } };
  const result = buildExtension(loaded, {
    version,
    arch: hostArch(),
    targets,
    profile: 'fast',
    origin: 'auto',
    out: join(at, 'out'),
    store: openStore(join(dir, 'store')),
    tools,
    report: (event) => void events.push(event),
  });
  return { result, at, events };
}

/** What a build failed with: rule, and file and line below the extension. */
async function errorsOf(
  built: Awaited<ReturnType<typeof build>>,
): Promise<{ rule: string | undefined; where: string | undefined; what: string }[]> {
  const error: unknown = await built.result.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(UserErrors);
  return (error as UserErrors).errors.map(({ message, where, next }: UserError) => {
    expect(next).not.toBe('');
    return { rule: /\[([a-z0-9-]+)\]$/.exec(message)?.[1], where: where?.replace(`${built.at}/`, ''), what: message };
  });
}

test.each([
  ['usr/sbin/x', 'usr-sbin'],
  ['etc/x', 'outside-usr'],
  ['opt/demo/bin/x', 'outside-usr'],
  ['usr/lib64/libz.so.1', 'usr-lib64'],
])('a file in %s: the rule %s, at that file', async (path, rule) => {
  const found = await errorsOf(await build({ [path]: 'text', 'usr/share/demo/x': 'text' }));
  expect(found).toContainEqual(expect.objectContaining({ rule, where: `files/${path}:1` }));
  for (const { where } of found) expect(where).toBe(`files/${path}:1`);
});

test('a link in place of a folder of the host: at the link', async () => {
  const found = await errorsOf(await build({ 'usr/lib64': '->lib', 'usr/lib/demo/x': 'text' }));
  expect(found).toContainEqual(expect.objectContaining({ rule: 'usr-lib64', where: 'files/usr/lib64:1' }));
});

test('a warning has file and line, too', async () => {
  const { result, at, events } = await build({ 'usr/local/bin/x': 'text' });
  await result;
  const notices = events.flatMap((event) => (event.type === 'notice' ? [event.text] : []));
  expect(notices).toContainEqual(expect.stringContaining(`${at}/files/usr/local/bin/x:1: `));
});

test('a program that needs the libraries of the host: which one, in a portable image', async () => {
  const copy = (await tools.command('patchelf')).args.at(-1) ?? '';
  const found = await errorsOf(await build({ 'usr/bin/dynamic': { copy }, 'usr/share/demo/x': 'text' }));
  expect(found).toEqual([
    { rule: 'portable-needs-host', where: 'files/usr/bin/dynamic:1', what: expect.stringContaining('libc.so.6') as string },
  ]);
  const bound = await build({ 'usr/bin/dynamic': { copy } }, { targets: [targetOf('4593.2.5')] });
  expect((await bound.result).images).toHaveLength(1);
});

describe('a kubelet and the container runtime of a release', () => {
  const [old, recent] = [targetOf('4081.3.10'), targetOf('4593.2.5')];
  const kubelet = (version: string, targets: readonly Target[], waive: Record<string, string> = {}): ReturnType<typeof build> =>
    build(
      { 'usr/share/demo/x': 'text', '../kubelet/usr/share/kubelet/fixture': 'text' },
      {
        version,
        targets,
        waive,
        components: () => [{ name: 'kubelet', version, origins: [{ kind: 'files', dir: 'kubelet' }], install: [{ from: '**', to: '' }] }],
      },
    );
  test('1.38 is not bound to a release with containerd 1', async () => {
    const [found] = await errorsOf(await kubelet('1.38.0', [old]));
    expect(found).toMatchObject({
      rule: 'needs-containerd',
      what: expect.stringMatching(/kubelet 1\.38\.0 needs containerd 2\.0; Flatcar 4081\.3\.10 has 1\.7/) as string,
    });
  });
  test('it is bound to one with containerd 2, and 1.37 to both', async () => {
    expect((await (await kubelet('1.38.0', [recent])).result).images).toHaveLength(1);
    expect((await (await kubelet('1.37.2', [old, recent])).result).images).toHaveLength(2);
  });
  test('with the reason that a newer containerd is beside it, to both', async () => {
    const waive = { 'needs-containerd': 'the extension containerd is merged beside it' };
    expect((await (await kubelet('1.38.0', [old, recent], waive)).result).images).toHaveLength(2);
  });
  test("with requires: ['containerd'], to both: the runtime is that extension's", () => {
    const subject = { needs: { systemd: '252', libraries: [] }, components: [{ name: 'kubelet', version: '1.38.0' }] };
    expect(checkCompatibility({ ...subject, requires: ['containerd'] }, old)).toEqual([]);
    expect(checkCompatibility({ ...subject, requires: ['runc'] }, old).map(({ rule }) => rule)).toEqual(['needs-containerd']);
  });
  test('if the version of the runtime is unknown, nothing is reported', () => {
    const subject = { needs: { systemd: '252', libraries: [] }, components: [{ name: 'kubelet', version: '1.40.1' }] };
    expect(checkCompatibility(subject, old).map(({ rule }) => rule)).toEqual(['needs-containerd']);
    expect(checkCompatibility(subject, { ...old, containerd: undefined })).toEqual([]);
    expect(checkCompatibility(subject, 'portable')).toEqual([]);
  });
});
