// A definition is checked whole when it is loaded: each fault has its line of extension.ts and what to write instead, and all are told at once.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { UserError, UserErrors } from '../src/util/errors.ts';
import { componentSource } from '../src/definition/component-source.ts';
import { componentsOf } from '../src/definition/components.ts';
import { findExtensions, loadDefinition, loadExtension } from '../src/definition/load.ts';

const CORE = pathToFileURL(join(import.meta.dirname, '../src/engine.ts')).href;
const RIGHT = `import * as core from '${CORE}';
const { binary, cargo, debian, defineExtension, github, go, packaged, source, upstream } = core;
// A comment may say starts: or sumary: as well.
export default defineExtension({
  name: 'tool',
  summary: 'a tool',
  versions: { kind: 'github', repo: 'example/tool', track: 'newest' },
  components: ({ version }) => [
    binary('tool', version, upstream('https://example.org/{version}/tool-{arch}')),
  ],
  start: ['tool.service'],
});
`;
let root: string;
let dir: string;
let count = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'definitions-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));
beforeEach(async () => {
  // A module is loaded once per path.
  dir = join(root, String((count += 1)), 'extensions', 'tool');
  await mkdir(dir, { recursive: true });
});
afterEach(() => rm(dir, { recursive: true, force: true }));

/** What loading a definition says: line, text and advice of each fault. */
async function faults(text: string): Promise<readonly [number, string, string | undefined][]> {
  await writeFile(join(dir, 'extension.ts'), text);
  const error = await loadDefinition(dir).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error === undefined) return [];
  if (!(error instanceof UserError)) throw error;
  const errors = error instanceof UserErrors && error.errors.length > 0 ? error.errors : [error];
  return errors.map(({ where = '', message, next }) => {
    expect(where.slice(0, where.lastIndexOf(':'))).toBe(join(dir, 'extension.ts'));
    return [Number(where.split(':').at(-1)), message, next];
  });
}
const change = (from: string, to: string): string => {
  expect(RIGHT).toContain(from);
  return RIGHT.replace(from, () => to);
};

test('the one that the others are made of is right', async () => {
  expect(await faults(RIGHT)).toEqual([]);
});

const START = "start: ['tool.service']";
const VERSIONS = "{ kind: 'github', repo: 'example/tool', track: 'newest' }";
const COMPONENT = "binary('tool', version, upstream('https://example.org/{version}/tool-{arch}'))";
const component = (rest: string): string => `{ name: 'tool', version, ${rest} }`;
const PLACES = "install: [{ from: 'tool', to: 'usr/bin/' }]";

const WORKFLOW = 'https://github.com/example/tool/.github/workflows/release.yml';
const SHARED = 'https://github.com/builders/shared/.github/workflows/bake.yml';
const signedBy = (rest: string): string =>
  `binary('tool', version, upstream('https://github.com/example/tool/releases/download/v{version}/tool', { signature: { kind: 'sigstore', issuer: 'https://a', bundle: 'github', ${rest} } }))`;

test.each([
  `identity: '${WORKFLOW}@refs/tags/v{version}'`,
  `identity: '${WORKFLOW}@*', ref: 'refs/tags/v{version}'`,
  `identity: '${WORKFLOW}@refs/heads/main'`,
  `identity: 'https://gitlab.com/a/b//.gitlab-ci.yml@refs/tags/v{version}', source: 'https://gitlab.com/a/b'`,
  `identity: '${SHARED}@*', source: 'https://github.com/example/tool', ref: 'refs/tags/v{version}'`,
  `identity: '${SHARED}@refs/tags/v1', source: 'https://github.com/example/tool', ref: 'refs/heads/main'`,
  "identity: 'release@example.org'",
])('a signer is valid: %s', async (rest) => {
  expect(await faults(change(COMPONENT, signedBy(rest)))).toEqual([]);
});

test.each<[string, string, number, string, string | RegExp | undefined]>([
  // Unknown keys, at every level.
  [START, "starts: ['tool.service']", 11, "unknown key 'starts'", "did you mean 'start'?"],
  ["summary: 'a tool'", "sumary: 'a tool'", 6, "unknown key 'sumary'", "did you mean 'summary'?"],
  [START, `${START},\n  requiredPath: []`, 12, "unknown key 'requiredPath'", "did you mean 'requiredPaths'?"],
  [START, `${START},\n  xyzzy: []`, 12, "unknown key 'xyzzy'", /^use one of: name, summary, kind/],
  ["track: 'newest'", "tracks: 'newest'", 7, "versions: unknown key 'tracks'", "did you mean 'track'?"],
  [
    START,
    "coupled: { runc: { kind: 'github', repo: 'a/b', trak: 'newest' } }",
    11,
    "coupled.runc: unknown key 'trak'",
    "did you mean 'track'?",
  ],
  [
    COMPONENT,
    component(`origin: [], origins: [upstream('https://a/b')], ${PLACES}`),
    9,
    "components[0]: unknown key 'origin'",
    "did you mean 'origins'?",
  ],
  [
    COMPONENT,
    component("origins: [upstream('https://a/b')], install: [{ from: 'tool', to: 'usr/bin/', mod: 0o755 }]"),
    9,
    "components[0].install[0]: unknown key 'mod'",
    "did you mean 'mode'?",
  ],
  [
    COMPONENT,
    "binary('tool', version, upstream('https://a/b', { cheksum: 'github' }))",
    9,
    "components[0].origins[0]: unknown key 'cheksum'",
    "did you mean 'checksum'?",
  ],
  [
    COMPONENT,
    "binary('tool', version, go('example.org/tool', '.', { stamp: {} }))",
    9,
    "components[0].origins[0]: unknown key 'stamp'",
    "did you mean 'stamps'?",
  ],
  [
    COMPONENT,
    "binary('tool', version, cargo('tool', ['tool'], { feature: [] }))",
    9,
    "components[0].origins[0]: unknown key 'feature'",
    "did you mean 'features'?",
  ],
  [
    COMPONENT,
    "packaged('tool', version, debian(['tool'], { program: ['tool'] }))",
    9,
    "components[0].origins[0]: unknown key 'program'",
    "did you mean 'programs'?",
  ],
  [
    COMPONENT,
    "binary('tool', version, upstream('https://a/b', { signature: { kind: 'pgp', key: 'x', keys: 'x', fingerprints: ['ABCDEF0123456789ABCDEF0123456789ABCDEF01'] } }))",
    9,
    "components[0].origins[0].signature: unknown key 'key'",
    "did you mean 'keys'?",
  ],
  // Identities of sigstore bind a repository and a version.
  ...[
    ['*', "'*' matches other signers too", "behind the '@'"],
    ['https://github.com/example/tool*', "'https://github.com/example/tool*' matches other signers too", "behind the '@'"],
    [
      'https://github.com/*/.github/workflows/a.yml@refs/tags/v{version}',
      "'https://github.com/*/.github/workflows/a.yml@refs/tags/v{version}' matches other signers too",
      "behind the '@'",
    ],
    ['krel@*', "'krel@*' matches other signers too", "behind the '@'"],
    [`${WORKFLOW}@refs/tags/*`, `'${WORKFLOW}@refs/tags/*' is the signer of every version`, '@refs/tags/v{version}'],
    [`${WORKFLOW}@refs/tags/v1.2.3`, `'${WORKFLOW}@refs/tags/v1.2.3' is the signer of every version`, '{version}'],
    [`${WORKFLOW}@refs/tags/{versoin}`, "'{versoin}' is not a known word", "did you mean 'version'?"],
  ].map(([identity = '', what = '', next = '']): [string, string, number, string, string] => [
    COMPONENT,
    signedBy(`identity: '${identity}'`),
    9,
    `components[0].origins[0].signature.identity: ${what}`,
    next,
  ]),
  [
    COMPONENT,
    signedBy(`identity: '${SHARED}@*', source: 'https://github.com/example/tool'`),
    9,
    `components[0].origins[0].signature.identity: '${SHARED}@*' is the signer of every version`,
    "add ref: 'refs/tags/v{version}'",
  ],
  [
    COMPONENT,
    signedBy(`identity: '${SHARED}@*', source: 'https://github.com/example/tool', ref: 'refs/tags/*'`),
    9,
    "components[0].origins[0].signature.ref: 'refs/tags/*' is not a ref",
    "write it as 'refs/tags/v{version}'",
  ],
  [
    COMPONENT,
    signedBy(`identity: '${SHARED}@*', ref: 'refs/tags/v{version}'`),
    9,
    'components[0].origins[0].signature: the workflow belongs to https://github.com/builders/shared, and the file to https://github.com/example/tool',
    "add source: 'https://github.com/example/tool'",
  ],
  // Wrong types.
  [START, "start: 'tool.timer'", 11, "start: expected a list, got the string 'tool.timer'", "write it as ['tool.timer']"],
  [START, 'start: [7]', 11, 'start[0]: expected a string, got 7', undefined],
  [START, "releaseBound: 'yes'", 11, "releaseBound: expected true or false, got the string 'yes'", undefined],
  [START, "waive: ['usr-sbin']", 11, 'waive: expected an object, got a list', undefined],
  [START, 'replaces: { a: 1 }', 11, 'replaces: expected a list, got an object', undefined],
  [VERSIONS, "'github'", 7, "versions: expected an object, got the string 'github'", undefined],
  ["summary: 'a tool'", 'summary: 7', 6, 'summary: expected a string, got 7', undefined],
  [
    'components: ({ version }) => [',
    'components: [], other: ({ version }) => [',
    8,
    'components: expected a function that returns the components, got a list',
    undefined,
  ],
  // Wrong values.
  ["track: 'newest'", "track: 'newst'", 7, "versions.track: 'newst' is not a policy of versions", /^did you mean 'newest'\?/],
  ["track: 'newest'", "track: '0 minors'", 7, "versions.track: '0 minors' is not a policy of versions", /3 minors/],
  ["kind: 'github'", "kind: 'gihub'", 7, /versions\.kind: 'gihub' is not one of github, /.source, "did you mean 'github'?"],
  [
    "repo: 'example/tool'",
    "repo: 'https://github.com/example/tool'",
    7,
    "versions.repo: 'https://github.com/example/tool' is not a GitHub repository",
    "write it as 'owner/repository'",
  ],
  [START, "kind: 'confxt'", 11, "kind: 'confxt' is not one of sysext, confext", "did you mean 'confext'?"],
  [START, "start: ['tool']", 11, "start[0]: 'tool' is not the name of a unit that can be started", /with its suffix/],
  [START, "start: ['tool@.service']", 11, "start[0]: 'tool@.service' is not the name of a unit that can be started", /instance/],
  [START, "waive: { 'usr-sbin': ' ' }", 11, 'waive.usr-sbin: has no reason', 'write why the rule does not apply'],
  [START, "requiredPaths: ['/usr/bin/tool']", 11, "requiredPaths[0]: '/usr/bin/tool' is not a path in an image", /relative to the root/],
  [START, "replaces: ['usr/../bin']", 11, "replaces[0]: 'usr/../bin' is not a path in an image", /relative to the root/],
  [START, "conflicts: ['Docker']", 11, "conflicts[0]: 'Docker' is not a valid extension name", /lowercase/],
  ["summary: 'a tool'", "summary: 'a tool.'", 6, 'summary: ends with a full stop', 'leave it out'],
  ["summary: 'a tool'", "summary: ''", 6, 'summary: must be one line', undefined],
  ["name: 'tool'", "name: 'flatcar-tool'", 5, "name: the name 'flatcar-tool' belongs to Flatcar itself", /flatcar-/],
  [
    "'https://example.org/{version}/tool-{arch}'",
    "'example.org/tool'",
    9,
    "components[0].origins[0].url: 'example.org/tool' is not a valid URL",
    /https/,
  ],
  [
    "'https://example.org/{version}/tool-{arch}'",
    "'https://example.org/{versoin}'",
    9,
    "components[0].origins[0].url: '{versoin}' is not a known word",
    "did you mean 'version'?",
  ],
  [
    'upstream(',
    "go('example.org/tool', '.', { stamps: { 'main.version': '{versoin}' } }), upstream(",
    9,
    "components[0].origins[0].stamps.main.version: '{versoin}' is not a known word",
    "did you mean 'version'?",
  ],
  [
    COMPONENT,
    component("origins: [{ kind: 'upstream' }], install: [{ from: 'tool', to: 'usr/bin/' }]"),
    9,
    "components[0].origins[0]: 'url' is missing",
    undefined,
  ],
  [COMPONENT, component(`origins: [{ url: 'https://a/b' }], ${PLACES}`), 9, "components[0].origins[0]: 'kind' is missing", /upstream, go/],
  [
    COMPONENT,
    component(`origins: [{ kind: 'upsteam', url: 'https://a/b' }], ${PLACES}`),
    9,
    /components\[0\]\.origins\[0\]\.kind: 'upsteam' is not one of /.source,
    "did you mean 'upstream'?",
  ],
  [COMPONENT, component(`origins: [], ${PLACES}`), 9, 'components[0].origins: must have an origin', /upstream/],
  [COMPONENT, component("origins: [upstream('https://a/b')], install: []"), 9, 'components[0].install: must have a rule', /usr\/bin/],
  [COMPONENT, component("origins: [upstream('https://a/b')]"), 9, "components[0]: 'install' is missing", undefined],
  [
    COMPONENT,
    component("origins: [upstream('https://a/b')], install: [{ from: 'a[b', to: 'usr/bin/' }]"),
    9,
    "components[0].install[0].from: 'a[b' is not a valid glob",
    /close/,
  ],
  [
    COMPONENT,
    component("origins: [upstream('https://a/b')], install: [{ from: '{a,b', to: 'usr/bin/' }]"),
    9,
    "components[0].install[0].from: '{a,b' is not a valid glob",
    /close/,
  ],
  [
    COMPONENT,
    component("origins: [upstream('https://a/b')], install: [{ from: 'tool', to: '/usr/bin/' }]"),
    9,
    "components[0].install[0].to: '/usr/bin/' is not a place in an image",
    /below usr/,
  ],
  [
    COMPONENT,
    component("origins: [upstream('https://a/b')], install: [{ from: 'tool', to: 'opt/x' }]"),
    9,
    "components[0].install[0].to: 'opt/x' is not a place in an image",
    /below usr/,
  ],
  [
    COMPONENT,
    component("origins: [upstream('https://a/b')], install: [{ from: 'tool', to: 'usr/bin/', mode: 0o17777 }]"),
    9,
    'components[0].install[0].mode: 0o17777 is not a file mode',
    /0o755/,
  ],
  [
    COMPONENT,
    component("origins: [upstream('https://a/b')], install: [{ from: 'tool', to: 'usr/bin/', mode: '755' }]"),
    9,
    "components[0].install[0].mode: expected a number, got the string '755'",
    undefined,
  ],
  [
    COMPONENT,
    "packaged('tool', version, debian(['tool'], { programs: ['tool'], relocate: { data: ['/usr/share/tool/**'] } }))",
    9,
    "components[0].origins[0].relocate.data[0]: '/usr/share/tool/**' begins with a slash",
    /relative/,
  ],
  [
    COMPONENT,
    "packaged('tool', version, debian(['tool'], { programs: ['tool'], relocate: { plugins: ['usr/lib/{tripel}/x'] } }))",
    9,
    "components[0].origins[0].relocate.plugins[0]: '{tripel}' is not a known word",
    "did you mean 'triplet'?",
  ],
  [COMPONENT, `${COMPONENT},\n    ${COMPONENT}`, 10, "components[1]: two components are called 'tool'", /another name/],
  [
    COMPONENT,
    "binary('to ol', version, upstream('https://a/b'))",
    9,
    "components[0].name: 'to ol' is not a valid component name",
    /letters/,
  ],
])('%s as %s', async (from, to, line, what, next) => {
  const found = await faults(change(from, to));
  const first = found.find(([, message]) =>
    what.includes('\\') || what.startsWith('components\\') ? new RegExp(what).test(message) : message === what,
  );
  expect(first, JSON.stringify(found)).toBeDefined();
  expect(first?.[0]).toBe(line);
  if (next === undefined) expect(first?.[2]).toBeUndefined();
  else expect(first?.[2]).toMatch(next);
});

test('all problems are reported at once, in the order of the lines', async () => {
  const text = change(START, "starts: ['x']")
    .replace("'newest'", "'newst'")
    .replace('https://', '')
    .replace("summary: 'a tool'", 'summary: []');
  expect((await faults(text)).map(([line]) => line)).toEqual([6, 7, 9, 11]);
});

test('a folder with another name is reported, and extensions that do not exist', async () => {
  await mkdir(join(dir, '../docker'), { recursive: true });
  await writeFile(join(dir, '../docker/extension.ts'), '');
  expect(await faults(change("name: 'tool'", "name: 'tools'"))).toEqual([
    [5, "name: the name of the extension is 'tools', and that of its folder 'tool'", 'give both the same name'],
  ]);
});
test('names of extensions in requires and conflicts are those of folders beside it', async () => {
  await mkdir(join(dir, '../docker'), { recursive: true });
  await writeFile(join(dir, '../docker/extension.ts'), '');
  const text = change(START, "requires: ['docker'],\n  conflicts: ['doker']");
  expect(await faults(text)).toEqual([[12, "conflicts[0]: there is no extension 'doker'", "did you mean 'docker'?"]]);
});
test('an extension that requires itself, or conflicts with itself, is reported', async () => {
  await mkdir(join(dir, '../docker'), { recursive: true });
  await writeFile(join(dir, '../docker/extension.ts'), '');
  expect(await faults(change(START, "requires: ['tool']"))).toMatchObject([
    [11, "requires[0]: 'tool' is this extension itself", 'remove it'],
  ]);
});
test('an extension that requires an extension which it conflicts with is reported', async () => {
  await mkdir(join(dir, '../docker'), { recursive: true });
  await writeFile(join(dir, '../docker/extension.ts'), '');
  const text = change(START, "requires: ['docker'],\n  conflicts: ['docker']");
  expect(await faults(text)).toMatchObject([
    [12, "conflicts[0]: 'docker' is listed under 'requires', too", 'remove it from one of the two'],
  ]);
});

test('a function of components that fails is reported with its own line', async () => {
  const text = change(COMPONENT, `binary('tool', version.nothing.at, upstream('https://a/b'))`);
  expect(await faults(text)).toMatchObject([[9, expect.stringContaining('components: the function fails: '), expect.any(String)]]);
});

test('every definition of the repository is right', async () => {
  const all = await findExtensions(resolve(import.meta.dirname, '../../..'));
  expect(all.length).toBeGreaterThan(0);
  for (const one of all) await expect(loadDefinition(one), one).resolves.toBeDefined();
});

test('every shared component of the repository has its definition beside its lock', async () => {
  const repository = resolve(import.meta.dirname, '../../..');
  const shared = new Map<string, string>();
  for (const folder of await findExtensions(repository)) {
    const loaded = await loadExtension(folder);
    for (const version of Object.keys(loaded.pins))
      for (const { component } of (await componentsOf(loaded, version)).components)
        if (component.lock !== undefined) shared.set(component.name, component.lock);
  }
  expect(shared.size).toBeGreaterThan(0);
  for (const [name, lock] of shared) expect(dirname((await componentSource(lock, name))?.file ?? ''), name).toBe(lock);
});

test('problems of a shared component are reported in its own file', async () => {
  const shared = join(root, `shared-${count}`);
  await mkdir(shared, { recursive: true });
  await writeFile(
    join(shared, 'component.ts'),
    `import { binary, upstream } from '${CORE}';
export const runner = (version) => ({
  ...binary('runner', version, upstream('https://example.org/runner-{arch}')),
  lokc: 'x',
  lock: ${JSON.stringify(shared)},
});
`,
  );
  await writeFile(
    join(dir, 'extension.ts'),
    `import { runner } from '${pathToFileURL(join(shared, 'component.ts')).href}';\n${change('components: ({ version }) => [', 'components: ({ version }) => [runner(version),')}`,
  );
  await expect(loadDefinition(dir)).rejects.toMatchObject({
    message: expect.stringContaining("unknown key 'lokc'") as string,
    where: `${join(shared, 'component.ts')}:4`,
  });
});
