import { describe, expect, test } from 'vitest';
import { generalizeUrl, proposeAssets, readListing, splitTag, type Listing } from '../src/new/propose-assets.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;
/** A release as GitHub's API gives it; names as these projects have them. */
const listing = (tag_name: string, names: readonly string[], digest: string | null = DIGEST): Listing => ({
  tag_name,
  draft: false,
  prerelease: false,
  assets: names.map((name) => ({ name, digest })),
});

const K9S = [
  'checksums.sha256',
  'k9s_Darwin_amd64.tar.gz',
  'k9s_Darwin_arm64.tar.gz',
  'k9s_Linux_amd64.tar.gz',
  'k9s_Linux_amd64.tar.gz.sbom.json',
  'k9s_Linux_arm64.tar.gz',
  'k9s_Linux_armv7.tar.gz',
  'k9s_Linux_ppc64le.tar.gz',
  'k9s_linux_amd64.apk',
  'k9s_linux_amd64.deb',
  'k9s_linux_arm64.deb',
  'k9s_Windows_amd64.zip',
];
const NODE_EXPORTER = [
  'node_exporter-1.9.1.darwin-amd64.tar.gz',
  'node_exporter-1.9.1.linux-386.tar.gz',
  'node_exporter-1.9.1.linux-amd64.tar.gz',
  'node_exporter-1.9.1.linux-arm64.tar.gz',
  'node_exporter-1.9.1.linux-armv7.tar.gz',
  'sha256sums.txt',
];
const NEBULA = [
  'nebula-darwin.zip',
  'nebula-linux-amd64.tar.gz',
  'nebula-linux-arm-7.tar.gz',
  'nebula-linux-arm64.tar.gz',
  'nebula-windows-amd64.zip',
  'SHASUM256.txt',
];
const OPKSSH = [
  'checksums.txt',
  'opkssh-linux-amd64',
  'opkssh-linux-arm64',
  'opkssh-osx-amd64',
  'opkssh-osx-arm64',
  'opkssh-windows-amd64.exe',
];
const ZELLIJ = [
  'zellij-aarch64-apple-darwin.sha256sum',
  'zellij-aarch64-apple-darwin.tar.gz',
  'zellij-aarch64-unknown-linux-musl.sha256sum',
  'zellij-aarch64-unknown-linux-musl.tar.gz',
  'zellij-no-web-aarch64-unknown-linux-musl.tar.gz',
  'zellij-no-web-x86_64-unknown-linux-musl.tar.gz',
  'zellij-x86_64-unknown-linux-musl.sha256sum',
  'zellij-x86_64-unknown-linux-musl.tar.gz',
];
const RIPGREP = [
  'ripgrep-15.1.0-aarch64-apple-darwin.tar.gz',
  'ripgrep-15.1.0-aarch64-unknown-linux-gnu.tar.gz',
  'ripgrep-15.1.0-aarch64-unknown-linux-gnu.tar.gz.sha256',
  'ripgrep-15.1.0-x86_64-pc-windows-msvc.zip',
  'ripgrep-15.1.0-x86_64-unknown-linux-musl.tar.gz',
  'ripgrep-15.1.0-x86_64-unknown-linux-musl.tar.gz.sha256',
  'ripgrep_15.1.0-1_amd64.deb',
];
const K3S = [
  'k3s',
  'k3s-airgap-images-amd64.tar.zst',
  'k3s-airgap-images-arm64.tar.zst',
  'k3s-arm64',
  'k3s-armhf',
  'k3s-images.txt',
  'k3s.exe',
  'sha256sum-amd64.txt',
  'sha256sum-arm64.txt',
];
const CILIUM = ['amd64', 'arm64'].flatMap((arch) =>
  ['linux', 'darwin'].flatMap((os) => [`cilium-${os}-${arch}.tar.gz`, `cilium-${os}-${arch}.tar.gz.sha256sum`]),
);
const SIGNED = [
  'tool-1.0.0-linux-amd64.tar.gz',
  'tool-1.0.0-linux-arm64.tar.gz',
  'tool-1.0.0-linux-amd64.tar.gz.asc',
  'tool-1.0.0-linux-arm64.tar.gz.asc',
  'tool_1.0.0_checksums.txt',
  'tool_1.0.0_checksums.txt.sigstore.json',
];

describe('what a release offers for both architectures', () => {
  test.each<[string, string, readonly string[], string, string]>([
    ['k9s', 'v0.51.0', K9S, 'k9s_Linux_{arch}.tar.gz', 'checksums.sha256'],
    ['node-exporter', 'v1.9.1', NODE_EXPORTER, 'node_exporter-{version}.linux-{arch}.tar.gz', 'sha256sums.txt'],
    ['nebula', 'v1.10.0', NEBULA, 'nebula-linux-{arch}.tar.gz', 'SHASUM256.txt'],
    ['opkssh', 'v0.10.0', OPKSSH, 'opkssh-linux-{arch}', 'checksums.txt'],
    ['zellij', 'v0.43.1', ZELLIJ, 'zellij-{machine}-unknown-linux-musl.tar.gz', 'github'],
    ['cilium-cli', 'v0.20.0', CILIUM, 'cilium-linux-{arch}.tar.gz', '{url}.sha256sum'],
  ])('%s', (name, tag, names, asset, checksum) => {
    expect(proposeAssets(listing(tag, names), name)[0]).toMatchObject({ asset, checksum });
  });

  test('halves that differ by C library have words of their own', () => {
    const [first] = proposeAssets(listing('15.1.0', RIPGREP), 'ripgrep');
    expect(first?.asset).toBe('ripgrep-{version}-{arch}.tar.gz');
    expect(first?.arch).toEqual({ 'x86-64': 'x86_64-unknown-linux-musl', arm64: 'aarch64-unknown-linux-gnu' });
    expect(first?.checksum).toBe('{url}.sha256');
  });

  test('a name without an architecture is for x86-64 if there is one for arm64', () => {
    const found = proposeAssets(listing('v1.36.0', K3S), 'k3s').find(({ asset }) => asset === 'k3s{arch}');
    expect(found?.arch).toEqual({ 'x86-64': '', arm64: '-arm64' });
  });

  test('k3s: a version with a plus sign, and a list of checksums for each architecture', () => {
    expect(proposeAssets(listing('v1.33.1+k3s1', K3S, null), 'k3s')[0]).toMatchObject({
      asset: 'k3s{arch}',
      arch: { 'x86-64': '', arm64: '-arm64' },
      checksum: 'sha256sum-{goarch}.txt',
    });
    const other = [
      'a-linux-x86_64',
      'a-linux-aarch64',
      'SHA256SUMS.x86_64',
      'SHA256SUMS.aarch64',
      'SHA256SUMS-darwin-amd64',
      'SHA256SUMS-darwin-arm64',
    ];
    expect(proposeAssets(listing('v1.0', other, null), 'a')[0]?.checksum).toBe('SHA256SUMS.{machine}');
  });

  test('without digests at GitHub and without a list, the checksum is none', () => {
    expect(proposeAssets(listing('v1.0.0', ['a-linux-amd64', 'a-linux-arm64'], null), 'a')[0]?.checksum).toBe('none');
  });

  test('signatures are found by what they sign', () => {
    const [first] = proposeAssets(listing('v1.0.0', SIGNED), 'tool');
    expect(first?.checksum).toBe('tool_{version}_checksums.txt');
    expect(first?.signatures).toEqual([
      { kind: 'pgp', of: 'file', url: '{url}.asc' },
      { kind: 'sigstore', of: 'checksum', url: '{checksum}.sigstore.json' },
    ]);
  });

  test.each([
    ['one architecture only', ['a-linux-amd64.tar.gz', 'a-darwin-arm64.tar.gz']],
    ['packages only', ['a_1.0.0_amd64.deb', 'a_1.0.0_arm64.deb']],
    ['nothing', []],
  ])('%s is nothing to ship', (_, names) => {
    expect(proposeAssets(listing('v1.0.0', names), 'a')).toEqual([]);
  });
});

test('the newest published release of a list is used', () => {
  const all = [{ ...listing('v2.0.0-rc.1', []), prerelease: true }, listing('v1.9.0', ['x']), listing('v1.8.0', [])];
  expect(readListing(JSON.stringify(all), 'f').tag_name).toBe('v1.9.0');
});

test.each(['{', '{"message":"Not Found"}', '[]'])('%s is not a listing', (text) => {
  expect(() => readListing(text, 'saved.json')).toThrow(/listing/);
});

test.each([
  ['v1.2.3', 'v', '1.2.3'],
  ['1.2', '', '1.2'],
  ['kustomize/v5.8.0', 'kustomize/v', '5.8.0'],
  ['release-20260914.0', 'release-', '20260914.0'],
  ['v1.33.1+k3s1', 'v', '1.33.1+k3s1'],
])('%s is a version behind a prefix', (tag, prefix, version) => {
  expect(splitTag(tag)).toEqual({ prefix, version });
});

test.each(['v1.0.0-rc.1', 'nightly', 'v1.2.3-beta', 'v1.33.1-rc1+k3s1', 'v1.33.1+k3s-rc1'])('%s is not shipped', (tag) => {
  expect(() => splitTag(tag)).toThrow(/plain version/);
});

test('a URL of one version becomes a pattern', () => {
  expect(generalizeUrl('https://get.helm.sh/helm-v4.3.0-linux-amd64.tar.gz', '4.3.0')).toBe(
    'https://get.helm.sh/helm-v{version}-linux-{arch}.tar.gz',
  );
  expect(generalizeUrl('https://x.example/1.0/a-aarch64.tgz', '1.0')).toBe('https://x.example/{version}/a-{machine}.tgz');
  expect(() => generalizeUrl('https://x.example/latest/a', '1.0')).toThrow(/does not contain the version/);
});
