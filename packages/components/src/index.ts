// Components that several extensions ship, each from one lock, so that the same path has the same bytes in all of them.
import { join } from 'node:path';
import {
  binary,
  github,
  go,
  programs,
  release,
  source,
  type Component,
  type PgpSignature,
  type SigstoreSignature,
  type VersionSource,
} from '@flatcar/core';

export * from './hypervisor.ts';

const lock = (name: string): string => join(import.meta.dirname, '..', 'locks', name);

/** Signed without keys by a workflow of GitHub's runners. */
const byWorkflow = (identity: string, bundle: string): SigstoreSignature => ({
  kind: 'sigstore',
  issuer: 'https://token.actions.githubusercontent.com',
  identity,
  bundle,
});

/** containerd's own releases; its live branches are kept. */
export const containerdReleases = github('containerd/containerd', '2 minors');
/** runc's releases. A containerd asks for one in script/setup/runc-version of its tag. */
export const runcReleases = github('opencontainers/runc');
/** Releases of the CNI reference plugins. */
export const cniReleases = github('containernetworking/plugins');

/** containerd, its shim for runc, and ctr. */
export function containerd(version: string): Component {
  const module = 'github.com/containerd/containerd/v2';
  const names = ['containerd', 'containerd-shim-runc-v2', 'ctr'];
  return {
    ...programs(
      'containerd',
      version,
      names,
      containerdReleases.asset('containerd-static-{version}-linux-{arch}.tar.gz', {
        checksum: '{url}.sha256sum',
        signature: byWorkflow('https://github.com/containerd/containerd/.github/workflows/release.yml@refs/tags/v{version}', 'github'),
      }),
      // Without btrfs: its snapshotter wants C headers, and Flatcar has no such file system.
      go(
        module,
        names.map((name) => `cmd/${name}`),
        {
          tags: ['urfave_cli_no_docs', 'no_btrfs'],
          stamps: { [`${module}/version.Version`]: 'v{version}' },
        },
      ),
    ),
    lock: lock('containerd'),
  };
}

/** runc's maintainers, by the keyring in its repository: Aleksa Sarai, Kir Kolyshkin, Akihiro Suda. */
const runcKeys: PgpSignature = {
  kind: 'pgp',
  keys: 'runc.keyring',
  fingerprints: [
    'C9C370B246B09F6DBCFC744C34401015D1D2D386',
    'C2428CD75720FACDCF76B6EA17DE5ECB75A1100E',
    'C020EA876CE4E06C7AB95AEF49524C6F9F638F1A',
  ],
};

/** The OCI runtime of containerd and docker. */
export function runc(version: string): Component {
  return {
    name: 'runc',
    version,
    origins: [
      runcReleases.asset('runc.{arch}', {
        checksum: 'runc.sha256sum',
        signature: [
          { ...runcKeys, of: 'checksum' },
          { ...runcKeys, url: '{url}.asc' },
        ],
      }),
      go('github.com/opencontainers/runc', '', { tags: ['seccomp'], cgo: true, stamps: { 'main.version': '{version}' } }),
    ],
    places: [{ from: 'runc', to: 'usr/bin/' }],
    lock: lock('runc'),
  };
}

const plugins =
  'bandwidth bridge dhcp dummy firewall host-device host-local ipvlan loopback macvlan portmap ptp sbr static tap tuning vlan vrf';

/** The CNI reference plugins, in usr/lib/cni. */
export function cniPlugins(version: string): Component {
  return {
    name: 'cni-plugins',
    version,
    origins: [
      cniReleases.asset('cni-plugins-linux-{arch}-v{version}.tgz', { checksum: '{url}.sha256' }),
      go('github.com/containernetworking/plugins', ['plugins/main/*', 'plugins/ipam/*', 'plugins/meta/*'], {
        stamps: { 'github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion': 'v{version}' },
      }),
    ],
    places: plugins.split(' ').map((from) => ({ from, to: 'usr/lib/cni/' })),
    lock: lock('cni-plugins'),
  };
}

/** A component of files that this repository ships itself. */
function ownFiles(name: string): Component {
  return { name, version: '1', origins: [{ kind: 'files', dir: 'files' }], places: [{ from: '**', to: '' }], lock: lock(name) };
}

/**
 * Makes any containerd, Flatcar's own included, read `conf.d`: a drop-in of containerd.service that points it to a
 * configuration in /run, made when it starts, out of config.toml and conf.d.
 */
export const containerdConf = ownFiles('containerd-conf');
/** For `waive` of the extensions that bring `containerdConf` without containerd.service itself. */
export const containerdConfWaiver = {
  'dropin-owner:usr/lib/systemd/system/containerd.service.d/50-conf.d.conf':
    'a shared component: all extensions that bring it have the same bytes under this path',
};

/** containerd.service and its config.toml. */
export const containerdService = ownFiles('containerd-service');

/** Docker's own releases: an index page of archives, without checksum or signature. */
export const dockerReleases: VersionSource = {
  kind: 'page',
  at: 'https://download.docker.com/linux/static/stable/{machine}/',
  keep: 'newest',
  tagPrefix: 'docker-',
};
/** Docker's daemon as a Go module. Its beta tags are those of Docker's releases: 2.0.0-beta.24 is 29.8.1. */
export const mobyReleases: VersionSource = { kind: 'go', at: 'github.com/moby/moby/v2', keep: 'newest' };
export const buildxReleases = github('docker/buildx');
export const composeReleases = github('docker/compose');
/** Docker builds its command line plugins by this workflow, which any project may call: the plugin's own repository must have run it. */
const byDockerBuilder = (source: string): SigstoreSignature => ({
  ...byWorkflow('https://github.com/docker/github-builder/.github/workflows/bake.yml@*', '{url}.sigstore.json'),
  source,
  ref: 'refs/tags/v{version}',
});
/** docker-init. */
export const tiniReleases = github('krallin/tini');

/** The versions that a Docker Engine is made of. */
export interface DockerVersions {
  readonly version: string;
  /** Of the Go module github.com/moby/moby/v2, which is tagged apart from Docker's releases. */
  readonly moby: string;
  readonly buildx: string;
  readonly compose: string;
  readonly tini: string;
}

/** The Docker Engine with its command line, buildx and compose, and their units; without containerd and runc. */
export function dockerEngine(v: DockerVersions): Component[] {
  const archive = release('https://download.docker.com/linux/static/stable/{machine}/docker-{version}.tgz');
  const moby = 'github.com/moby/moby/v2';
  const cli = 'github.com/docker/cli';
  const plugin = (name: string): Component['places'] => [{ from: name, to: 'usr/libexec/docker/cli-plugins/' }];
  return [
    {
      ...binary(
        'docker',
        v.version,
        archive,
        go(cli, 'cmd/docker', {
          version: `${v.version}+incompatible`,
          language: 'go1.26',
          stamps: { [`${cli}/cli/version.Version`]: '{version}', [`${cli}/cli/version.PlatformName`]: 'Docker Engine - Community' },
        }),
      ),
      lock: lock('docker'),
    },
    {
      ...programs(
        'moby',
        v.version,
        ['dockerd', 'docker-proxy'],
        archive,
        go(moby, ['cmd/dockerd', 'cmd/docker-proxy'], { version: v.moby, stamps: { [`${moby}/dockerversion.Version`]: '{version}' } }),
      ),
      lock: lock('docker'),
    },
    {
      name: 'docker-buildx',
      version: v.buildx,
      origins: [
        buildxReleases.asset('buildx-v{version}.linux-{arch}', {
          checksum: 'checksums.txt',
          signature: byDockerBuilder('https://github.com/docker/buildx'),
        }),
        go('github.com/docker/buildx', 'cmd/buildx', {
          rename: { 'cmd/buildx': 'docker-buildx' },
          stamps: { 'github.com/docker/buildx/version.Version': 'v{version}' },
        }),
      ],
      places: plugin('docker-buildx'),
      lock: lock('buildx'),
    },
    {
      name: 'docker-compose',
      version: v.compose,
      origins: [
        composeReleases.asset('docker-compose-linux-{machine}', {
          checksum: '{url}.sha256',
          signature: byDockerBuilder('https://github.com/docker/compose'),
        }),
        go('github.com/docker/compose/v5', 'cmd', {
          rename: { cmd: 'docker-compose' },
          stamps: { 'github.com/docker/compose/v5/internal.Version': 'v{version}' },
        }),
      ],
      places: plugin('docker-compose'),
      lock: lock('compose'),
    },
    {
      name: 'tini',
      version: v.tini,
      origins: [
        tiniReleases.asset('tini-static-{arch}', { checksum: '{url}.sha256sum' }),
        source('pool/main/t/tini/tini_{version}.orig.tar.gz', 'build.sh'),
      ],
      places: [{ from: 'tini', to: 'usr/bin/docker-init' }],
      lock: lock('tini'),
    },
    ownFiles('docker-service'),
  ];
}
