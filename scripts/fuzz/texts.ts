// Texts to begin with: small ones of every form that a reader takes.
import { elfOf } from '@flatcar/core/test/hostile-images';

const hash = (letter: string): string => letter.repeat(64);

export const hostileElves = (): Promise<Buffer[]> => Promise.resolve([elfOf(), elfOf({ next: 16 })]);

export const PACKAGES = [
  `Package: tini
Source: tini-source (0.19)
Version: 1:0.19.0-1+b3
Architecture: amd64
Pre-Depends: init-system-helpers (>= 1.54~)
Depends: libc6 (>= 2.34), libgcc-s1 | libgcc1:any (<< 4), zlib1g [amd64]
Provides: init, tini-api (= 2)
Filename: pool/main/t/tini/tini_0.19.0-1_amd64.deb
Size: 261000
SHA256: ${hash('a')}
Description: tiny init
 Folded line.

Package: other
Version: 2
Filename: pool/main/o/other_2_all.deb
Size: 1
SHA256: ${hash('b')}
`,
];

export const SOURCES = [
  `Package: tini
Format: 3.0 (quilt)
Directory: pool/main/t/tini
Checksums-Sha256:
 ${hash('a')} 2000 tini_0.19.0-1.dsc
 ${hash('b')} 31000 tini_0.19.0.orig.tar.gz

Package: other
Directory: pool/main/o/other
Checksums-Sha256:
 ${hash('c')} 1 other_1.dsc
`,
];

export const SOURCES_LISTS = [
  'deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] https://example.org/debian trixie main contrib # comment\n# deb https://example.org x main\ndeb http://example.org/debian trixie-updates main\n',
  'Types: deb deb-src\nURIs: https://example.org/debian\nSuites: trixie trixie-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\nTypes: deb\nEnabled: no\nURIs: https://example.org/other\nSuites: x\nComponents: main\n',
];

export const VERSIONS = ['1.2.3\n1.2.3-1\n1:0.9~rc1-2+b1\n2.0+really1.9-1\n1.36.4-10\n0\n29.8.1\n1.2.3+deb12u1\n'];

export const COPYRIGHTS = [
  `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: tool

Files: *
Copyright: 2020 Somebody
License: GPL-2+ and Expat or BSD-3-clause

Files: lib/* third/*
Copyright: 2021 Others
License: LGPL-2.1, Apache-2.0

Files: debian/*
License: GPL-3+

License: Expat
 Permission is hereby granted.
`,
];

export const SUMS = [`${hash('a')}  docker.portable_29.8.1_x86-64.raw\n${hash('b')} *other.raw\n`];

export const CHECKSUMS = [
  `${hash('a')}\n`,
  `${hash('a')}  tool.tgz\n${hash('b')} *./other.tgz\n${'c'.repeat(128)}  dist/third.tgz\n`,
  `SHA256 (tool.tgz) = ${hash('a')}\nSHA512 (other.tgz) = ${'c'.repeat(128)}\n`,
];

export const RELEASE_FILES = [
  'ID=flatcar\nVERSION_ID=4593.2.5\nARCHITECTURE=x86-64\nSYSEXT_ID="demo"\nSYSEXT_VERSION_ID=\'1.0-1\'\n# comment\n\n\n',
];

export const CRATE_INDEX = [
  [
    '\u0003\u0002\0\0\0etag: W/"x"',
    '2.7.4',
    '{"name":"memchr","vers":"2.7.4","deps":[],"cksum":"x","features":{},"yanked":false}',
    '2.7.5',
    '{"name":"memchr","vers":"2.7.5","yanked":true,"pubtime":"2025-01-01T00:00:00Z"}',
  ].join('\0'),
];

export const PAGES = [
  '<html><body><pre><a href="../">../</a>\n<a href="docker-29.8.1.tgz">docker-29.8.1.tgz</a>   2025-11-01 10:00  70M\n<a class=x href=\'v1.2.3/\'>v1.2.3/</a> 2025-10-01\n<A HREF = tool%2D2.tar.gz >tool</A></pre></body></html>',
];

export const MANIFESTS = [
  JSON.stringify({
    schema: 1,
    name: 'demo',
    kind: 'sysext',
    summary: 'A demonstration',
    version: '1.0-1',
    upstream: '1.0',
    revision: 1,
    target: '4593.2.5',
    architecture: 'x86-64',
    format: 'ddi',
    profile: 'publish',
    file: 'demo.raw',
    size: 4096,
    sha256: hash('a'),
    sha512: 'b'.repeat(128),
    roothash: hash('c'),
    signed: true,
    needs: { systemd: '252', glibc: '2.38', libraries: ['libm.so.6'] },
    components: [{ name: 'demo', version: '1.0', license: 'MIT', origin: 'go' }],
    payload: hash('d'),
    publishBlockers: [],
    waived: { rule: 'why' },
    replaces: ['/usr/bin/demo'],
    conflicts: ['other'],
    requires: [],
    packaging: hash('e'),
  }),
];

export const PAYLOADS = [
  JSON.stringify({
    key: hash('a'),
    extension: 'demo',
    summary: 'A demonstration',
    kind: 'sysext',
    version: '1.0-1',
    upstream: '1.0',
    revision: 1,
    arch: 'arm64',
    format: 'squashfs',
    profile: 'fast',
    file: '../portable/demo.raw',
    sha256: hash('b'),
    size: 4096,
    releaseFileOffset: 4096,
    reload: true,
    tree: {
      digest: hash('c'),
      entries: [
        { path: 'usr/bin/demo', type: 'file', mode: 493, size: 1, sha256: hash('d'), component: 'demo' },
        { path: 'usr/bin/link', type: 'link', mode: 511, size: 0, link: 'demo', component: '' },
      ],
    },
    needs: { systemd: '252', libraries: [] },
    components: [
      {
        name: 'demo',
        version: '1.0',
        license: 'MIT',
        origin: 'upstream',
        materials: [{ locator: 'https://example.org/demo', sha256: hash('e'), proof: 'a test' }],
        parameters: { format: '1' },
      },
    ],
    tools: [{ name: 'mksquashfs', version: '4.6', sha256: hash('f'), status: 'pinned' }],
    publishBlockers: [],
    modules: [{ type: 'golang', name: 'stdlib', version: '1.25', paths: ['usr/bin/demo'] }],
    waived: {},
    replaces: [],
    conflicts: [],
    requires: [],
  }),
];

const listed = (path: string): object => ({ path, size: 1, sha256: hash('a') });

export const INDEXES = [
  JSON.stringify({
    schema: 1,
    serial: 7,
    baseUrl: 'https://example.org/tree',
    origins: 'preferred',
    extensions: [
      {
        name: 'demo',
        kind: 'sysext',
        summary: 'A demonstration',
        newest: '1.0',
        versions: ['1.0'],
        targets: ['portable'],
        architectures: ['x86-64'],
        ...listed('demo/index.json'),
      },
    ],
    packages: listed('packages.json'),
    keys: [listed('keys/roothash.crt')],
    sumsKeys: ['a'.repeat(40)],
    sumsUntil: '2026-12-11',
    changes: [{ date: '2026-11-27', name: 'demo', version: '1.0' }],
    superseded: ['demo/old.json'],
  }),
];

export const EXTENSION_INDEXES = [
  JSON.stringify({
    schema: 1,
    name: 'demo',
    kind: 'sysext',
    summary: 'A demonstration',
    essential: false,
    follow: 'latest',
    versions: [
      {
        version: '1.0-1',
        upstream: '1.0',
        revision: 1,
        needs: { 'x86-64': { systemd: '252', libraries: [] } },
        components: [{ name: 'demo', version: '1.0', license: 'MIT', origin: 'go' }],
        replaces: [],
        conflicts: [],
        requires: [],
        payloads: { 'x86-64 squashfs': { key: hash('a'), record: hash('b') } },
        withdrawn: { reason: 'broken', by: '1.0-2' },
        images: [
          {
            target: 'portable',
            architecture: 'x86-64',
            format: 'squashfs',
            path: 'demo/portable/demo.raw',
            size: 1,
            sha256: hash('c'),
            sha512: 'd'.repeat(128),
            manifest: hash('e'),
            sbom: hash('f'),
            provenance: hash('0'),
          },
        ],
      },
    ],
  }),
];

export const UPDATE_PACKAGES = [
  JSON.stringify({
    schema: 1,
    packages: [
      {
        name: 'flatcar-demo.gz',
        extension: 'demo',
        version: '1.0',
        release: '4593.2.5',
        architecture: 'arm64',
        path: 'arm64-usr/4593.2.5/flatcar-demo.gz',
        size: 1,
        sha1: 'x',
        sha256: hash('a'),
        image: listed('arm64-usr/x.raw'),
      },
    ],
  }),
];

const release = (channel: string): object => ({
  channel,
  architectures: ['amd64', 'arm64'],
  release_date: '2026-10-01 10:00:00 +0000',
  major_software: { kernel: ['6.12.61'], systemd: ['257'], containerd: ['2.1.5'] },
});
export const RELEASES = [
  JSON.stringify({
    '4593.2.5': release('stable'),
    '4628.1.0': release('beta'),
    '4700.0.0': release('alpha'),
    '4081.3.10': release('lts'),
    'current-stable': release('stable'),
  }),
];

export const RECIPES = [
  `function list_available_versions() {
  list_github_releases "example" "tool" | sed 's/^v//'
}
function populate_sysext_root() {
  local sysextroot="$1" arch="$2" version="$3"
  local rel="$(arch_transform 'x86-64' 'amd64' "$arch")" suffix=""
  case "\${arch}" in arm64|aarch64) suffix="-\${rel#x}" ;; esac
  if [[ -z "\${rel}" ]] && true ; then echo no >&2; return 1; fi
  for name in a b; do
    curl -o "\${name}.tgz" -fsSL "https://example.org/v\${version}/\${name}\${suffix}-\${rel:-x}.tgz"
    tar --strip-components 1 -xzf "\${name}.tgz" -C dir
    install -m 0755 "$(find dir -name \${name})" "\${sysextroot}/usr/bin/\${name}"
  done
  cat <<END >"\${sysextroot}/usr/share/x"
\${version}
END
}
`,
];

export const LISTINGS = [
  JSON.stringify([
    {
      tag_name: 'v1.2.3',
      draft: false,
      prerelease: false,
      assets: [
        { name: 'tool_1.2.3_linux_amd64.tar.gz', digest: `sha256:${hash('a')}` },
        { name: 'SHA256SUMS', digest: null },
      ],
    },
    { tag_name: 'v1.3.0-rc1', prerelease: true, assets: [] },
  ]),
];
