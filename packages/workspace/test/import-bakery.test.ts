import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { loadDefinition } from '@flatcar/core/engine';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { REPOSITORY } from '../src/select.ts';
import { importBakery, type ImportedRecipe } from '../src/bakery/import-bakery.ts';

let temp = '';
beforeAll(async () => {
  temp = await mkdtemp(join(tmpdir(), 'import-bakery-'));
  // Definitions import the packages of this repository.
  await symlink(join(REPOSITORY, 'node_modules'), join(temp, 'node_modules'));
});
afterAll(() => rm(temp, { recursive: true, force: true }));

const HEAD = '#!/usr/bin/env bash\n# A recipe.\nRELOAD_SERVICES_ON_MERGE="true"\n';
const recipe = (list: string, body: string): string =>
  `${HEAD}function list_available_versions() {\n  ${list}\n}\n# --\n\nfunction populate_sysext_root() {\n  local sysextroot="$1"\n  local arch="$2"\n  local version="$3"\n${body}\n}\n`;
const releases = (repo: string, body: string, filter = ''): string => recipe(`list_github_releases "example" "${repo}"${filter}`, body);
const ARCH = `  local rel_arch="$(arch_transform 'x86-64' 'amd64' "$arch")"`;
const MACHINE = `  local rel_arch="$(arch_transform 'x86-64' 'x86_64' "$arch")"\n  rel_arch="$(arch_transform 'arm64' 'aarch64' "$rel_arch")"`;
const BASE = 'https://github.com/example';

/** A tree of recipes, each of another shape. */
const TREE: Readonly<Record<string, string>> = {
  // A program in an archive, with a checksum next to it, below /usr/local.
  'archive.sysext/create.sh': releases(
    'archive',
    `${ARCH}
  tarball="archive-linux-\${rel_arch}.tar.gz"
  curl --fail --location --output "\${tarball}" "${BASE}/archive/releases/download/\${version}/\${tarball}" \\
    --output "\${tarball}.sha256sum" "${BASE}/archive/releases/download/\${version}/\${tarball}.sha256sum"
  sha256sum -c "\${tarball}.sha256sum"
  mkdir -p "\${sysextroot}/usr/local/bin"
  tar --force-local -xf "\${tarball}" -C "\${sysextroot}/usr/local/bin"
  chmod +x "\${sysextroot}/usr/local/bin/archive"`,
  ),
  // A raw program whose name has a suffix for one architecture only, with links to it.
  'suffix.sysext/create.sh': releases(
    'suffix',
    `  local suffix=""
  if [[ $arch == arm64 ]] ; then
    suffix="-arm64"
  fi
  curl -o suffix -fsSL "${BASE}/suffix/releases/download/\${version}/suffix\${suffix}"
  mkdir -p "\${sysextroot}/usr/local/bin/"
  cp -a suffix "\${sysextroot}/usr/local/bin/"
  cd "\${sysextroot}/usr/local/bin"
  ln -s ./suffix kubectl`,
  ),
  // Versions without `v`, a list of checksums, a program that is searched in the archive.
  'found.sysext/create.sh': releases(
    'found',
    `${MACHINE}
  local tarball="found_\${version#v}_linux_\${rel_arch}.tar.gz"
  local base_url="${BASE}/found/releases/download/\${version}"
  curl --parallel --fail --location \\
    --remote-name "\${base_url}/\${tarball}" \\
    --remote-name "\${base_url}/checksums.txt"
  expected="$(awk -v t="\${tarball}" '$2 == t {print $1; exit}' checksums.txt)"
  if [[ -z "\${expected}" ]] ; then
    echo "ERROR" >&2
    return 1
  fi
  mkdir -p "\${sysextroot}/usr/bin" extract
  tar -xf "\${tarball}" -C extract
  install -m 0755 "$(find extract -type f -name found -print -quit)" "\${sysextroot}/usr/bin/found"`,
  ),
  // Two archives in one folder; tags whose version the list strips of its v.
  'two.sysext/create.sh': releases(
    'two',
    `${ARCH}
  curl -o one.tar.gz -fsSL "${BASE}/two/releases/download/v\${version}/one-linux-\${rel_arch}-v\${version}.tar.gz"
  curl -o other.tar.gz -fsSL "${BASE}/two/releases/download/v\${version}/other-linux-\${rel_arch}-v\${version}.tar.gz"
  tar -xf one.tar.gz
  tar -xf other.tar.gz
  mkdir -p "\${sysextroot}/usr/bin/"
  mv one "\${sysextroot}/usr/bin/"
  mv other "\${sysextroot}/usr/bin/"`,
    " | grep -vE '^api/' | sed 's/^v//'",
  ),
  // A vendor with its own host and API, a zip, a unit that a link starts, and a user of sysusers.d.
  'vendor.sysext/create.sh': recipe(
    "curl -fsSL https://api.releases.hashicorp.com/v1/releases/vendor?limit=20 | jq -r '.[].version' | sort -Vr",
    `${ARCH}
  curl -fsSLZO --retry 60 "https://releases.hashicorp.com/vendor/\${version}/vendor_\${version}_linux_\${rel_arch}.zip"
  mkdir -p "\${sysextroot}/usr/bin"
  unzip -q "vendor_\${version}_linux_\${rel_arch}.zip"
  install -m 0755 vendor "\${sysextroot}/usr/bin"`,
  ),
  'vendor.sysext/files/usr/lib/systemd/system/vendor.service': '[Service]\nUser=vendor\nExecStart=/usr/local/bin/vendor agent\n',
  'vendor.sysext/files/usr/lib/systemd/system/multi-user.target.upholds/vendor.service': '-> ../vendor.service',
  'vendor.sysext/files/usr/lib/sysusers.d/vendor.conf': 'u vendor\n',
  'vendor.sysext/files/usr/share/vendor/vendor.env': 'A=1\n',
  // A page of files, everything of an archive's folder, an option that takes parts away, units that drop-ins start.
  'page.sysext/create.sh': recipe(
    "curl -fsSL https://download.example.org/static/x86_64/ | sed -n 's/.*page-\\([0-9.]\\+\\).tgz.*/\\1/p'",
    `  local without="$(get_optional_param "without" "" "$@")"
${MACHINE}
  curl -o "page-\${version}.tgz" -fsSL "https://download.example.org/static/\${rel_arch}/page-\${version}.tgz"
  tar -xf "page-\${version}.tgz"
  mkdir -p "\${sysextroot}"/usr/bin
  cp -R page/* "\${sysextroot}"/usr/bin/
  if [[ "\${without}" == daemon ]] ; then
    rm "\${sysextroot}/usr/bin/paged"
  fi`,
  ),
  'page.sysext/files/usr/lib/systemd/system/page.service': '[Service]\nExecStart=/usr/sbin/paged\n',
  'page.sysext/files/usr/lib/systemd/system/multi-user.target.d/10-page.conf': '[Unit]\nUpholds=page.service\n',
  // A drop-in that its name keeps from starting anything.
  'page.sysext/files/usr/lib/systemd/system/page.socket': '[Socket]\nListenStream=1\n',
  'page.sysext/files/usr/lib/systemd/system/sockets.target.d/page.service': '[Unit]\nUpholds=page.socket\n',
  // Folders below /opt, and a format that depends on the version.
  'folders.sysext/create.sh': releases(
    'folders',
    `${ARCH}
  local rel_version="\${version#v}"
  local sufx="tar.xz"
  if semver_equals_or_higher "\${rel_version}" "3.21.0" ; then
    sufx="tar.zst"
  fi
  curl --remote-name -fsSL "${BASE}/folders/releases/download/\${rel_version}/folders-\${rel_version}-\${rel_arch}.\${sufx}"
  tar --force-local -xf "folders-\${rel_version}-\${rel_arch}.\${sufx}"
  mkdir -p "\${sysextroot}/opt" "\${sysextroot}/usr/bin"
  cp -aR opt/folders "\${sysextroot}/opt/"
  for bin in run shim ; do
    ln -sf "../../opt/folders/bin/\${bin}" "\${sysextroot}/usr/bin/\${bin}"
  done`,
  ),
  // A second project whose version only a run knows.
  'second.sysext/create.sh': releases(
    'second',
    `${ARCH}
  local other="$(curl_api_wrapper https://api.github.com/repos/example/other/releases/latest | jq -r .tag_name)"
  curl --remote-name -fsSL "${BASE}/second/releases/download/\${version}/second-\${rel_arch}.tar.gz{,.sha256}"
  curl --remote-name -fsSL "${BASE}/other/releases/download/\${other}/other.\${rel_arch}"
  tar -xf "second-\${rel_arch}.tar.gz"
  mkdir -p "\${sysextroot}/usr/bin"
  cp -aR bin/* "\${sysextroot}/usr/bin/"
  cp -a "other.\${rel_arch}" "\${sysextroot}/usr/bin/other"`,
  ),
  // Packages of Debian that a container copies with their libraries.
  'copied.sysext/create.sh': recipe(
    'curl -sSfL https://packages.debian.org/bookworm/copied | cut -d _ -f 2',
    `  docker run --rm -i -v "\${sysextroot}":/install_root docker.io/debian:bookworm-slim \\
    sh -c "apt update && apt install -y copied patchelf && cd /install_root && /tools/flix.sh / copied /usr/bin/copied /usr/lib/x && true"
  mv "\${sysextroot}"/copied/usr "\${sysextroot}"/usr`,
  ),
  // Compiled in a container.
  'compiled.sysext/create.sh': recipe(
    'list_gitlab_tags "gitlab.com" "39973492"',
    `  cp "\${scriptroot}/compiled.sysext/build.sh" .
  docker run --rm -i -v "$(pwd)":/install_root alpine:3.21 /install_root/build.sh "\${version}"
  cp -aR usr "\${sysextroot}"/`,
  ),
  // An installer of upstream.
  'installer.sysext/create.sh': releases(
    'installer',
    `${ARCH}
  [[ "\${version}" == v* ]] || version="v\${version}"
  curl -o "i.tar.gz" -fsSL "https://storage.example.org/i.\${rel_arch}.\${version}.tar.gz"
  tar -xf i.tar.gz
  DESTDIR="\${sysextroot}" PREFIX=/usr ./install`,
  ),
  'README.md': 'a bakery\n',
  'release_build_versions.txt': '# builds\narchive v1.2.3 # for CI\narchive latest\nfolders 3.2.0\ncopied latest\n',
};

async function writeTree(dir: string, files: Readonly<Record<string, string>>): Promise<string> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(dir, path)), { recursive: true });
    if (text.startsWith('-> ')) await symlink(text.slice(3), join(dir, path));
    else await writeFile(join(dir, path), text);
  }
  return dir;
}

let made = 0;
/** Imports a tree; returns the folder of the results, and the results by name. */
async function imported(
  files: Readonly<Record<string, string>>,
  names: readonly string[] = [],
): Promise<{ out: string; bakery: string; results: ReadonlyMap<string, ImportedRecipe> }> {
  made += 1;
  const bakery = await writeTree(join(temp, `bakery${made}`), files);
  const out = join(temp, `out${made}`);
  const results = await importBakery({ bakery, names, out });
  return { out, bakery, results: new Map(results.map((one) => [one.name, one])) };
}

describe('recipes of ten and more shapes', () => {
  let out = '';
  let results: ReadonlyMap<string, ImportedRecipe> = new Map();
  beforeAll(async () => {
    ({ out, results } = await imported(TREE));
  });
  const components = async (name: string): Promise<unknown> => (await loadDefinition(join(out, name))).components({ version: '1.2.3' });
  const decided = (name: string): string => (results.get(name)?.decisions ?? []).map(({ where, what }) => `${where}: ${what}`).join('\n');
  const program = (name: string, origin: object): object => ({
    name,
    version: '1.2.3',
    install: [{ from: name, to: 'usr/bin/' }],
    origins: [expect.objectContaining(origin)],
  });

  test('each is written, or what it lacks is told', () => {
    expect(Object.fromEntries([...results].map(([name, { status }]) => [name, status]))).toEqual({
      archive: 'written',
      suffix: 'written',
      found: 'written',
      two: 'written',
      vendor: 'written',
      page: 'written',
      folders: 'written',
      second: 'written',
      copied: 'written',
      compiled: 'undecided',
      installer: 'undecided',
    });
    expect(decided('compiled')).toMatch(/compiled\.sysext\/create\.sh:14: is built in a container/);
    expect(decided('installer')).toMatch(/installer\.sysext\/create\.sh:\d+: '\.\/install' was not followed/);
  });

  test('a program in an archive, with the checksum next to it, in usr/bin', async () => {
    expect(await components('archive')).toEqual([
      program('archive', { url: `${BASE}/archive/releases/download/v{version}/archive-linux-{arch}.tar.gz`, checksum: '{url}.sha256sum' }),
    ]);
    expect(decided('archive')).toContain('the bakery builds v1.2.3 besides the newest');
    expect(await readFile(join(out, 'archive/README.md'), 'utf8')).toContain('the bakery builds v1.2.3');
  });

  test('a suffix of one architecture, and links', async () => {
    expect(await components('suffix')).toEqual([
      program('suffix', { url: `${BASE}/suffix/releases/download/v{version}/suffix{arch}`, arch: { 'x86-64': '', arm64: '-arm64' } }),
    ]);
    expect(await readlink(join(out, 'suffix/files/usr/bin/kubectl'))).toBe('suffix');
  });

  test('a list of checksums, and a program that is searched in the archive', async () => {
    expect(await components('found')).toEqual([
      program('found', {
        url: `${BASE}/found/releases/download/v{version}/found_{version}_linux_{machine}.tar.gz`,
        checksum: 'checksums.txt',
      }),
    ]);
  });

  test('two archives, by tags with a v that the list strips', async () => {
    const of = (name: string): object =>
      program(name, { url: `${BASE}/two/releases/download/v{version}/${name}-linux-{arch}-v{version}.tar.gz`, checksum: 'github' });
    expect(await components('two')).toEqual([of('one'), of('other')]);
    expect((await loadDefinition(join(out, 'two'))).versions).toMatchObject({ kind: 'github', repo: 'example/two', tagPrefix: 'v' });
  });

  test('a vendor’s own host; its unit starts with the image, and its paths are those of the image', async () => {
    const definition = await loadDefinition(join(out, 'vendor'));
    expect(definition).toMatchObject({
      versions: { kind: 'page', url: 'https://releases.hashicorp.com/vendor/', tagPrefix: 'vendor_' },
      start: ['vendor.service'],
    });
    expect(await components('vendor')).toEqual([
      program('vendor', { url: 'https://releases.hashicorp.com/vendor/{version}/vendor_{version}_linux_{arch}.zip' }),
    ]);
    expect(await readFile(join(out, 'vendor/files/usr/lib/systemd/system/vendor.service'), 'utf8')).toContain(
      'ExecStart=/usr/bin/vendor agent',
    );
    expect(await readdir(join(out, 'vendor/files/usr/lib/systemd/system'))).toEqual(['vendor.service']);
    expect(await readFile(join(out, 'vendor/files/usr/lib/sysusers.d/vendor.conf'), 'utf8')).toBe('u vendor\n');
    expect(decided('vendor')).toContain('what their license permits');
  });

  test('a page of files; options are left at their default; units start by drop-ins, whatever these are called', async () => {
    const definition = await loadDefinition(join(out, 'page'));
    expect(definition).toMatchObject({
      versions: { kind: 'page', url: 'https://download.example.org/static/{machine}/' },
      start: ['page.service', 'page.socket'],
    });
    expect(await components('page')).toEqual([
      {
        name: 'page',
        version: '1.2.3',
        install: [{ from: 'page/*', to: 'usr/bin/' }],
        origins: [expect.objectContaining({ url: 'https://download.example.org/static/{machine}/page-{version}.tgz' })],
      },
    ]);
    expect(decided('page')).toContain("the option --without was left at its default ''");
  });

  test('folders below /opt are in usr/lib, and tags without a v as the list of builds has them', async () => {
    expect(await components('folders')).toEqual([
      {
        name: 'folders',
        version: '1.2.3',
        install: [{ from: 'opt/folders/**', to: 'usr/lib/folders/' }],
        origins: [expect.objectContaining({ url: `${BASE}/folders/releases/download/{version}/folders-{version}-{arch}.tar.zst` })],
      },
    ]);
    expect(await readlink(join(out, 'folders/files/usr/bin/shim'))).toBe('../lib/folders/bin/shim');
    expect(decided('folders')).toMatch(
      /takes the newest versions as not lower than 3\.21\.0[^]*below \/opt, which a merge makes read-only/,
    );
  });

  test('a second project with a version that only a run knows is left to a person', async () => {
    expect(await components('second')).toEqual([
      {
        name: 'second',
        version: '1.2.3',
        install: [{ from: 'bin/*', to: 'usr/bin/' }],
        origins: [expect.objectContaining({ checksum: '{url}.sha256' })],
      },
    ]);
    expect(decided('second')).toMatch(
      /second\.sysext\/create\.sh:\d+: downloads a file whose address only a run knows[^]*installs 'other\.amd64', of a download/,
    );
  });

  test('packages of Debian that a container copies are relocated', async () => {
    expect(await components('copied')).toMatchObject([{ origins: [{ kind: 'debian', packages: ['copied'], programs: ['copied'] }] }]);
    expect((await loadDefinition(join(out, 'copied'))).versions).toMatchObject({ kind: 'debian', package: 'trixie/main/copied' });
  });

  test('what is written has a test that fails until somebody completes it', async () => {
    expect(await readFile(join(out, 'archive/test/extension.test.ts'), 'utf8')).toContain(
      "run: ['archive', '--version'], says: /NOT TRIED/",
    );
  });
});

test('an extension that exists is left as it is; names choose recipes', async () => {
  const { out, bakery } = await imported(TREE, ['archive']);
  expect(await readdir(out)).toEqual(['archive']);
  await writeFile(join(out, 'archive/extension.ts'), '// mine\n');
  const [again] = await importBakery({ bakery, names: ['archive'], out });
  expect(again).toMatchObject({ status: 'exists', decisions: [] });
  expect(await readFile(join(out, 'archive/extension.ts'), 'utf8')).toBe('// mine\n');
  await expect(importBakery({ bakery, names: ['absent'], out })).rejects.toMatchObject({ message: "there is no recipe 'absent'" });
  await expect(importBakery({ bakery: out, names: [], out })).rejects.toMatchObject({ message: 'the folder has no recipe' });
});

describe('hostile trees', () => {
  test('nothing of a recipe is run, and no text of it is code of the definition', async () => {
    const file = join(temp, 'ran');
    const { out, results } = await imported({
      'evil.sysext/create.sh': releases(
        'evil',
        `  touch ${file}; $(touch ${file})
  x="$(touch ${file})"
  curl -o evil -fsSL "https://example.org/\${version}/'+globalThis.process.exit(1)+'"
  cp -a evil "\${sysextroot}/usr/bin/evil"`,
      ),
    });
    expect(results.get('evil')?.status).toBe('written');
    await loadDefinition(join(out, 'evil'));
    await expect(stat(file)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('paths outside of the image are refused by the schema of definitions', async () => {
    const { results, out } = await imported({
      'out.sysext/create.sh': releases(
        'out',
        `  curl -o x -fsSL "https://example.org/\${version}/x"\n  cp x "\${sysextroot}/../../etc/passwd"\n  cp x "\${sysextroot}/etc/shadow"`,
      ),
    });
    expect(results.get('out')?.status).toBe('undecided');
    expect(await readdir(out)).toEqual([]);
  });

  test('links of the tree are not followed, and files that are no files are not opened', async () => {
    const secret = join(temp, 'secret');
    await writeFile(secret, 'a secret');
    const bakery = await writeTree(join(temp, 'linked'), {
      'a.sysext/create.sh': `-> ${secret}`,
      'c.sysext/create.sh': releases('c', `  curl -o "\${sysextroot}/usr/bin/c" -fsSL "https://example.org/\${version}/c"`),
      'c.sysext/files/usr/share/c/stolen': `-> ${secret}`,
    });
    await symlink(join(bakery, 'c.sysext'), join(bakery, 'b.sysext'));
    execFileSync('mkfifo', [join(bakery, 'c.sysext/files/usr/share/c/fifo')]);
    await writeFile(join(bakery, 'c.sysext/files/usr/share/c/large'), Buffer.alloc(2 << 20));
    const results = await importBakery({ bakery, names: [], out: join(temp, 'linked-out') });
    expect(results.map(({ name, status }) => [name, status])).toEqual([
      ['a', 'undecided'],
      ['c', 'written'],
    ]);
    expect(results[0]?.decisions[0]?.what).toBe('not a small file');
    expect(await readdir(join(temp, 'linked-out/c/files/usr/share/c'))).toEqual(['stolen']);
    expect(await readlink(join(temp, 'linked-out/c/files/usr/share/c/stolen'))).toBe(secret);
    const said = (results[1]?.decisions ?? []).map(({ what }) => what).join('\n');
    expect(said).toMatch(/fifo was left out: it is not a file[^]*large was left out: it has 2097152 bytes/);
  });

  test.each([
    ['a quote without an end', 'x="\n'.repeat(3)],
    ['deep nesting', `${'if true; then '.repeat(500)}true`],
    ['deep substitutions', `x=${'$('.repeat(5000)}`],
    ['too much text', `x=${'y'.repeat(300 << 10)}`],
    [
      'loops that multiply',
      `function populate_sysext_root() {\n${'for a in 1 2 3 4 5 6 7 8 9 0; do\n'.repeat(12)}x=$x$x${'\ndone'.repeat(12)}\n}\n`,
    ],
    ['text that doubles', `function populate_sysext_root() {\nx=aaaaaaaa\n${'x="$x$x"\n'.repeat(60)}curl -O "https://example.org/$x"\n}\n`],
    [
      'a pattern that backtracks',
      `function populate_sysext_root() {\nx=${'a'.repeat(2000)}\nif [[ $x == ${'*a'.repeat(40)}b ]]; then y=1; fi\n}\n`,
    ],
    ['bytes', '\0\u{1}\u{fffd}'],
  ])('%s ends quickly, with a result', async (_, text) => {
    const started = Date.now();
    const { results } = await imported({ 'bad.sysext/create.sh': text });
    expect(results.get('bad')?.status).toBe('undecided');
    expect(results.get('bad')?.decisions.length).toBeGreaterThan(0);
    expect(Date.now() - started).toBeLessThan(5000);
  });
});
