import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { ARCHES, exec, imageBase, parseRef, selectTargets, type Arch, type ImageVersion, type TargetName } from '@flatcar/core/engine';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  butaneText,
  httpSource,
  ignitionConfig,
  initKeys,
  loadKeys,
  localDestination,
  nodeConfig,
  parseExtensionIndex,
  publish,
  STAGER,
  type ExtensionIndex,
  type NodeConfig,
  type NodeOptions,
  type NodeResult,
} from '../src/index.ts';
import { buildButane } from './helpers/butane.ts';
import { buildDemo } from './helpers/demo.ts';

const LTS = '4081.3.10'; // systemd 255
const STABLE = '4593.2.5'; // 257
const BETA = '4757.1.0'; // 260
const baseUrl = 'https://extensions.example.org/tree';
const keyring = Buffer.from([0x99, 0, 1, 255]);

const hex = (digits: number, seed: string): string => Buffer.from(seed).toString('hex').padEnd(digits, '0').slice(0, digits);

/** An index as it is published; it goes through the published schema. */
function index(
  name: string,
  versions: readonly {
    version: string;
    targets?: readonly string[];
    arches?: readonly Arch[];
    withdrawn?: boolean;
    replaces?: string[];
    conflicts?: string[];
    requires?: string[];
  }[],
): ExtensionIndex {
  return parseExtensionIndex(
    JSON.stringify({
      schema: 1,
      name,
      kind: 'sysext',
      summary: 'for a test',
      essential: false,
      follow: name === 'kubernetes' ? 'minor' : 'latest',
      versions: versions.map(
        ({
          version,
          targets = ['portable', LTS, STABLE, BETA],
          arches = ARCHES,
          withdrawn,
          replaces = [],
          conflicts = [],
          requires = [],
        }) => ({
          version,
          upstream: version.replace(/-\d+$/, ''),
          revision: Number(/-(\d+)$/.exec(version)?.[1] ?? 0),
          needs: {},
          components: [],
          replaces,
          conflicts,
          requires,
          payloads: {},
          ...(withdrawn === true ? { withdrawn: { reason: 'broken', by: 'another' } } : {}),
          images: targets.flatMap((target) =>
            arches.map((architecture) => {
              const base = imageBase(name, version as ImageVersion, target as TargetName, architecture);
              return {
                target,
                architecture,
                format: 'squashfs',
                path: `${name}/${target}/${base}.raw`,
                size: 4096,
                sha256: hex(64, base),
                sha512: hex(128, base),
                manifest: hex(64, 'm'),
                sbom: hex(64, 's'),
                provenance: hex(64, 'p'),
              };
            }),
          ),
        }),
      ),
    }),
    'the test',
  );
}

const published = new Map(
  [
    index('kubernetes', [
      { version: '1.37.0' },
      { version: '1.36.4-1' },
      { version: '1.36.4' },
      { version: '1.36.3' },
      { version: '1.36.2', withdrawn: true },
    ]),
    index('debug-tools', [{ version: '2026.11.24', targets: ['portable', STABLE] }]),
    index('docker', [{ version: '29.0.0', replaces: ['usr/bin/dockerd', 'usr/bin/containerd'], conflicts: ['containerd'] }]),
    index('metrics', [{ version: '1.0', requires: ['exporter'] }]),
    index('exporter', [{ version: '1.2', requires: ['helm'] }]),
    index('helm', [{ version: '4.3.1' }]),
    index('lonely', [{ version: '1.0', requires: ['nothing-there'] }]),
    index('docker-engine', [{ version: '29.0.0', replaces: ['usr/bin/dockerd'] }]),
    index('containerd', [{ version: '2.4.1', replaces: ['usr/bin/containerd'] }]),
    index('hypervisor', [{ version: '53.0.1' }, { version: '53.0' }]),
    index('nvidia', [{ version: '580.1', targets: [STABLE], arches: ['x86-64'] }]),
    index(STAGER, [{ version: '2026.11.24' }]),
  ].map((one) => [one.name, one]),
);

const make = (words: readonly string[], release: string, more: Partial<NodeOptions> = {}, from = published): Promise<NodeResult> =>
  nodeConfig(
    { wanted: words.map(parseRef), targets: selectTargets(release), arch: 'x86-64', baseUrl, minimal: false, stager: true, ...more },
    (name) => Promise.resolve(from.get(name)),
    keyring,
  );
const withoutStager = new Map([...published].filter(([name]) => name !== STAGER));
const linksOf = ({ config }: NodeResult): Record<string, string> =>
  Object.fromEntries(config.links.map(({ path, target }) => [path, target]));
const fileOf = ({ config }: NodeResult, path: string): unknown => config.files.find((file) => file.path === path)?.contents;

describe('what a node gets', () => {
  test('images by URL and hash, and a link per release', async () => {
    const made = await make(['kubernetes@1.36'], `${STABLE},${BETA}`);
    for (const release of [STABLE, BETA]) {
      const path = `/opt/extensions/kubernetes/kubernetes.${release}_1.36.4-1_x86-64.raw`;
      expect(fileOf(made, path)).toEqual({
        source: `${baseUrl}/kubernetes/${release}/kubernetes.${release}_1.36.4-1_x86-64.raw`,
        sha512: hex(128, `kubernetes.${release}_1.36.4-1_x86-64`),
      });
      expect(linksOf(made)[`/etc/extensions/kubernetes-${release}.raw`]).toBe(path);
    }
  });

  test.each([
    ['kubernetes', '1.37.0', 'MatchPattern=kubernetes.%w_1.37.@v_%a.raw'],
    ['kubernetes@latest', '1.37.0', 'MatchPattern=kubernetes.%w_@v_%a.raw'],
    ['hypervisor', '53.0.1', 'MatchPattern=hypervisor.%w_@v_%a.raw'],
    ['kubernetes@1', '1.37.0', 'MatchPattern=kubernetes.%w_1.@v_%a.raw'],
    ['kubernetes@1.36', '1.36.4-1', 'MatchPattern=kubernetes.%w_1.36.@v_%a.raw'],
    ['kubernetes@1.36.4', '1.36.4-1', 'MatchPattern=kubernetes.%w_1.36.4-1_%a.r@vw'],
    ['kubernetes@1.36.3', '1.36.3', 'MatchPattern=kubernetes.%w_1.36.3_%a.r@vw'],
    ['hypervisor@53', '53.0.1', 'MatchPattern=hypervisor.%w_53.@v_%a.raw'],
    ['hypervisor@53.0', '53.0', 'MatchPattern=hypervisor.%w_53.0_%a.r@vw'], // a version, although it is a branch of another
  ])('%s is %s now and follows %s', async (word, version, pattern) => {
    const made = await make([word], STABLE);
    const { name } = parseRef(word);
    expect(fileOf(made, `/opt/extensions/${name}/${name}.${STABLE}_${version}_x86-64.raw`)).toBeDefined();
    const { text } = fileOf(made, `/etc/sysupdate.${name}.d/${name}.transfer`) as { text: string };
    expect(text).toContain(pattern);
    expect(text).toContain('Verify=yes');
    expect(text).toContain(`Path=${baseUrl}/${name}/%w/`);
    expect(text).toContain(`CurrentSymlink=/etc/extensions/${name}-%w.raw`);
  });

  test('the keyring under both names that systemd looks for', async () => {
    const made = await make(['kubernetes'], STABLE);
    expect(fileOf(made, '/etc/systemd/import-pubring.gpg')).toEqual({ base64: keyring.toString('base64') });
    expect(linksOf(made)['/etc/systemd/import-pubring.pgp']).toBe('import-pubring.gpg');
  });

  test('a transfer file under the name that the oldest of the releases reads', async () => {
    expect(fileOf(await make(['kubernetes'], STABLE), '/etc/sysupdate.kubernetes.d/kubernetes.transfer')).toBeDefined();
    const old = await make(['kubernetes'], `${LTS},${STABLE}`);
    expect(fileOf(old, '/etc/sysupdate.kubernetes.d/kubernetes.conf')).toBeDefined();
    expect(fileOf(old, '/etc/sysupdate.kubernetes.d/kubernetes.transfer')).toBeUndefined();
  });

  test('the portable stager beside what is bound to releases, and no timers then', async () => {
    const made = await make(['kubernetes'], STABLE);
    expect(linksOf(made)[`/etc/extensions/${STAGER}.raw`]).toBe(`/opt/extensions/${STAGER}/${STAGER}.portable_2026.11.24_x86-64.raw`);
    expect((fileOf(made, `/etc/sysupdate.${STAGER}.d/${STAGER}.transfer`) as { text: string }).text).toContain(`/${STAGER}/portable/`);
    expect(made.config.units).toEqual([]);
    expect(made.notices).toEqual([
      'kubernetes follows 1.37: the next minor version may need other steps; to follow every version, ask for kubernetes@latest',
    ]);
  });

  test("an update asks for a reboot only where the extension's own image is another now", async () => {
    const { config } = await make(['docker'], STABLE, {}, withoutStager);
    const unit = config.units.find(({ name }) => name === 'extension-update@.service')?.contents ?? '';
    const [before = '', after = ''] = [...unit.matchAll(/^ExecStart(?:Pre|Post)=\/bin\/sh -c '(.*)'$/gm)].map(([, script]) => script);
    const root = await mkdtemp(join(tmpdir(), 'update-'));
    try {
      for (const dir of ['etc/extensions', 'var/lib/confexts', 'run']) await mkdir(join(root, dir), { recursive: true });
      /** What one run of the unit for `docker` says, while another process links these images. */
      const rebootAfter = async (changes: Readonly<Record<string, string>>): Promise<boolean> => {
        const run = (script: string): Promise<unknown> =>
          exec('sh', ['-c', script.replaceAll('%i', 'docker').replaceAll(/(?<= |>)\/(?=etc\/|var\/|run\/)/g, `${root}/`)]);
        await rm(join(root, 'run/reboot-required'), { force: true });
        await run(before);
        for (const [link, target] of Object.entries(changes)) {
          await rm(join(root, link), { force: true });
          await symlink(target, join(root, link));
        }
        await run(after);
        return existsSync(join(root, 'run/reboot-required'));
      };
      const link = `etc/extensions/docker-${STABLE}.raw`;
      expect(await rebootAfter({ [link]: `../../opt/extensions/docker/docker.${STABLE}_29.0.0_x86-64.raw` })).toBe(true);
      expect(await rebootAfter({})).toBe(false);
      // Names that begin with this one, also with a digit after the dash.
      for (const other of ['docker-engine', 'docker-2fa'])
        expect(
          await rebootAfter({ [`etc/extensions/${other}-${STABLE}.raw`]: `/opt/extensions/${other}/${other}.${STABLE}_1_x86-64.raw` }),
        ).toBe(false);
      expect(await rebootAfter({ [link]: `../../opt/extensions/docker/docker.${STABLE}_29.0.1_x86-64.raw` })).toBe(true);
      // Portable images, and those of confexts, are linked by the name alone.
      expect(await rebootAfter({ 'etc/extensions/docker.raw': '/opt/extensions/docker/docker.portable_29.0.2_x86-64.raw' })).toBe(true);
      expect(await rebootAfter({ 'var/lib/confexts/docker.raw': '/opt/extensions/docker/docker.portable_29.0.2_x86-64.raw' })).toBe(true);
    } finally {
      await rm(root, { recursive: true });
    }
  });

  test.each([
    ['where it is not published', {}, withoutStager],
    ['where it is not wanted', { stager: false }, published],
  ] as const)('timers instead of the stager %s, and a word about what that means', async (_, more, from) => {
    const made = await make(['kubernetes', 'debug-tools'], STABLE, more, from);
    expect(made.config.units.filter(({ enabled }) => enabled).map(({ name }) => name)).toEqual([
      'extension-update@kubernetes.timer',
      'extension-update@debug-tools.timer',
    ]);
    expect(made.notices.join()).toContain('before the node boots into it');
  });

  test('portable images take no stager: they fit the next release too', async () => {
    const made = await make(['kubernetes@1.37'], 'portable');
    expect(Object.keys(linksOf(made)).filter((path) => path.includes('extensions/'))).toEqual(['/etc/extensions/kubernetes.raw']);
    expect(made.config.units.map(({ name }) => name)).toContain('extension-update@kubernetes.timer');
    expect(made.notices).toEqual([]);
  });

  test("minimal: images and links, and Flatcar's own turned off, nothing else", async () => {
    const { config } = await make(['docker'], STABLE, { minimal: true });
    expect(config.files.map(({ path }) => path)).toEqual([`/opt/extensions/docker/docker.${STABLE}_29.0.0_x86-64.raw`]);
    expect(config.links.map(({ path }) => path)).toEqual([
      `/etc/extensions/docker-${STABLE}.raw`,
      '/etc/extensions/containerd-flatcar.raw',
      '/etc/extensions/docker-flatcar.raw',
    ]);
    expect(config.units).toEqual([]);
  });

  test.each([
    ['docker', ['containerd-flatcar', 'docker-flatcar']],
    ['docker-engine', ['docker-flatcar']],
    ['containerd', ['containerd-flatcar']],
    ['kubernetes', []],
  ])("%s takes the place of Flatcar's own %s", async (word, off) => {
    const links = linksOf(await make([word], STABLE));
    expect(Object.keys(links).filter((path) => links[path] === '/dev/null')).toEqual(off.map((name) => `/etc/extensions/${name}.raw`));
  });
});

describe('what is refused', () => {
  test.each([
    [['nothing'], STABLE, /nothing is not published/],
    [['kubernetes@1.35'], STABLE, /kubernetes 1\.35 is not published/],
    [['kubernetes@1.36.2'], STABLE, /kubernetes 1\.36\.2 is not published/], // withdrawn
    [['debug-tools'], BETA, /no version of debug-tools has an image for 4757\.1\.0 on x86-64/],
    [['docker', 'containerd'], STABLE, /docker and containerd cannot be merged together/],
    [['kubernetes', 'kubernetes@1.36'], STABLE, /kubernetes is specified twice/],
    [['kubernetes'], `portable,${STABLE}`, /portable images fit every release/],
  ])('%s for %s', async (words, release, why) => {
    await expect(make(words, release)).rejects.toThrow(why);
  });

  test('adds the extensions that another one requires, with a notice, and those that these require', async () => {
    const made = await make(['metrics'], STABLE);
    for (const name of ['metrics', 'exporter', 'helm'])
      expect(
        made.config.links.filter(({ path }) => path.includes(`/${name}-`)),
        name,
      ).toHaveLength(1);
    expect(made.notices).toEqual(expect.arrayContaining(['exporter is added: metrics requires it', 'helm is added: exporter requires it']));
    // An extension that was named needs no notice.
    const named = await make(['metrics', 'exporter'], STABLE);
    expect(named.notices.filter((one) => one.startsWith('exporter'))).toEqual([]);
    await expect(make(['lonely'], STABLE)).rejects.toThrow('lonely requires nothing-there: nothing-there is not published');
  });

  test('all unknown names and versions are reported at once', async () => {
    await expect(make(['nothing', 'kubernetes@9', 'kubernetes'].slice(0, 2), STABLE)).rejects.toMatchObject({
      errors: [{ message: 'nothing is not published' }, { message: 'kubernetes 9 is not published' }],
    });
  });

  test('an architecture that an extension is not made for', async () => {
    await expect(make(['nvidia'], STABLE, { arch: 'arm64' })).rejects.toMatchObject({ next: 'no image for arm64 is published' });
  });

  test.each(['', 'Kubernetes', 'kubernetes@', 'kubernetes@v1.36', 'a/b', 'kubernetes@1 2', '@1'])("'%s' names no extension", (word) => {
    expect(() => parseRef(word)).toThrow('is not NAME or NAME@VERSION');
  });
});

/** Butane chooses between forms of data URLs, and compresses what is long: the text behind them is what counts. */
function canonical(ignition: unknown): unknown {
  const textOf = (url: string, zipped: boolean): string => {
    const [, head = '', body = ''] = /^data:([^,]*),(.*)$/s.exec(url) ?? [];
    const bytes = head.endsWith('base64') ? Buffer.from(body, 'base64') : Buffer.from(decodeURIComponent(body));
    return (zipped ? gunzipSync(bytes) : bytes).toString('latin1');
  };
  return JSON.parse(
    JSON.stringify(ignition, (_, value: unknown) => {
      if (typeof value !== 'object' || value === null || !('source' in value) || typeof value.source !== 'string') return value;
      if (!value.source.startsWith('data:')) return value;
      return { text: textOf(value.source, 'compression' in value && value.compression === 'gzip') };
    }),
  );
}

describe('Butane, by its own compiler', () => {
  let dir: string;
  let butane: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'butane-'));
    butane = await buildButane();
  }, 600_000);
  afterAll(() => rm(dir, { recursive: true, force: true }));

  /** What Butane makes of it; unknown keys and warnings are errors. */
  async function compile(config: NodeConfig, change: (text: string) => string = (text) => text): Promise<unknown> {
    const file = join(dir, 'config.bu');
    await writeFile(file, change(await butaneText(config, 'for a test')));
    return JSON.parse(await exec(butane, ['--strict', file])) as unknown;
  }

  test.each([
    ['with the stager', ['kubernetes@1.36', 'debug-tools'], STABLE, {}],
    ['with timers', ['kubernetes'], STABLE, { stager: false }],
    ['for several releases', ['kubernetes'], `${LTS},${STABLE},${BETA}`, {}],
    ['portable', ['kubernetes', 'debug-tools'], 'portable', {}],
    ['minimal, in the place of built-in ones', ['docker'], STABLE, { minimal: true }],
  ] as const)('%s: it is accepted, and what it makes is our Ignition', async (_, words, release, more) => {
    const { config } = await make(words, release, more);
    expect(canonical(await compile(config))).toEqual(canonical(ignitionConfig(config)));
  });

  test('it would tell: a key that is none, a hash that is none', async () => {
    const { config } = await make(['kubernetes'], STABLE);
    await expect(compile(config, (text) => text.replace('storage:', 'stowage:'))).rejects.toThrow(/stowage|Unused key/);
    await expect(compile(config, (text) => text.replace(/sha512-[0-9a-f]+/, 'sha512-00'))).rejects.toThrow(/hash/);
  });
});

describe('a published tree over HTTP', () => {
  let dir: string;
  let server: Server;
  let url: string;
  const [stable] = selectTargets(STABLE);
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'node-config-'));
    await initKeys(join(dir, 'keys'));
    await buildDemo(join(dir, 'images'), { version: '1.0.0', targets: stable === undefined ? [] : [stable] });
    await publish({
      paths: [join(dir, 'images')],
      destination: localDestination(join(dir, 'tree')),
      keys: await loadKeys(join(dir, 'keys'), {}),
      baseUrl,
    });
    server = createServer((request, response) => {
      if (request.url?.startsWith('/broken/') === true) response.writeHead(503).end();
      else
        readFile(join(dir, 'tree', request.url ?? '')).then(
          (body) => response.end(body),
          () => response.writeHead(404).end(),
        );
    });
    await new Promise<void>((done) => {
      server.listen(0, '127.0.0.1', done);
    });
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }, 300_000);
  afterAll(async () => {
    server.close();
    await rm(dir, { recursive: true, force: true });
  });
  const bin = resolve(import.meta.dirname, '../../cli/bin/flatcar-ext');
  const cli = (...args: readonly string[]): Promise<string> => exec(bin, args);

  /** An operator's copy of the root of a set of keys. */
  const rootOf = (name: string): string => join(dir, name, 'metadata/1.root.json');

  test('flatcar-ext ignition: from the served index, by a root of trust that is known', async () => {
    const args = ['demo', '--release', STABLE, '--arch', 'x86-64', '--base-url', `${url}/`, '--root', rootOf('keys')];
    const { storage } = JSON.parse(await cli('ignition', ...args)) as {
      storage: { files: { path: string; contents: { source: string; verification?: { hash: string } } }[] };
    };
    const [image] = storage.files;
    expect(image?.contents.source).toBe(`${url}/demo/${STABLE}/demo.${STABLE}_1.0.0_x86-64.raw`);
    const served = await httpSource(url).read(`demo/${STABLE}/demo.${STABLE}_1.0.0_x86-64.raw`);
    const { createHash } = await import('node:crypto');
    expect(image?.contents.verification?.hash).toBe(
      `sha512-${createHash('sha512')
        .update(served ?? '')
        .digest('hex')}`,
    );
    const text = await cli('butane', ...args);
    expect(text).toContain('variant: flatcar');
    expect(text).toContain('mode: 0644');
    for (const form of ['butane', 'ignition'])
      await expect(exec('sh', ['-c', 'exec "$0" "$@" >/dev/full', bin, form, ...args])).rejects.toThrow('cannot write the output');
  });

  test('another root, no root, no tree, a broken server and a base URL that is none are told', async () => {
    await initKeys(join(dir, 'others'));
    const args = ['butane', 'demo', '--release', STABLE, '--arch', 'x86-64'];
    const others = ['--root', rootOf('others')];
    await expect(cli(...args, '--base-url', url, ...others)).rejects.toThrow('timestamp was signed by 0/1 keys');
    await expect(cli(...args, '--base-url', url)).rejects.toThrow('cannot verify this tree: no root of trust is given');
    await expect(cli(...args, '--base-url', `${url}/nothing`, ...others)).rejects.toThrow('nothing is published here');
    await expect(cli(...args, '--base-url', `${url}/broken`, ...others)).rejects.toThrow('answered 503');
    await expect(cli(...args, '--base-url', 'extensions.example.org')).rejects.toThrow('not a valid http(s) URL');
    // What was accepted once is remembered, and no longer a first use.
    await expect(cli(...args, '--base-url', url, '--trust-first-use')).resolves.toContain('variant: flatcar');
    await expect(cli(...args, '--base-url', url)).resolves.toContain('variant: flatcar');
  });
});
