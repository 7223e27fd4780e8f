import { binary, go, programs, upstream, type Component, type VersionSource } from '@flatcar/core';
import { buildx } from '../buildx/component.ts';
import { compose } from '../compose/component.ts';
import { dockerService } from '../docker-service/component.ts';
import { tini } from '../tini/component.ts';

/** Docker's own releases: an index page of archives, without checksum or signature. */
export const dockerReleases: VersionSource = {
  kind: 'page',
  url: 'https://download.docker.com/linux/static/stable/{machine}/',
  track: 'newest',
  tagPrefix: 'docker-',
};

const CLI = 'github.com/docker/cli';
const MOBY = 'github.com/moby/moby/v2';

/** Docker's daemon as a Go module. Its beta tags are those of Docker's releases: 2.0.0-beta.24 is 29.8.1. */
export const mobyReleases: VersionSource = { kind: 'go', module: MOBY, track: 'newest' };

/** The versions that a Docker Engine consists of. */
export interface DockerVersions {
  readonly version: string;
  /** Of the Go module github.com/moby/moby/v2, which is tagged apart from Docker's releases. */
  readonly moby: string;
  readonly buildx: string;
  readonly compose: string;
  readonly tini: string;
}

const archive = upstream('https://download.docker.com/linux/static/stable/{machine}/docker-{version}.tgz');

function cli(version: string): Component {
  const built = go(CLI, 'cmd/docker', {
    version: `${version}+incompatible`,
    goVersion: 'go1.26',
    stamps: { [`${CLI}/cli/version.Version`]: '{version}', [`${CLI}/cli/version.PlatformName`]: 'Docker Engine - Community' },
  });
  return { ...binary('docker', version, archive, built), lock: import.meta.dirname };
}

function daemon(version: string, moby: string): Component {
  const built = go(MOBY, ['cmd/dockerd', 'cmd/docker-proxy'], {
    version: moby,
    stamps: { [`${MOBY}/dockerversion.Version`]: '{version}' },
  });
  return { ...programs('moby', version, ['dockerd', 'docker-proxy'], archive, built), lock: import.meta.dirname };
}

/** The Docker Engine with its command line, buildx and compose, and their units; without containerd and runc. */
export function dockerEngine(v: DockerVersions): Component[] {
  return [cli(v.version), daemon(v.version, v.moby), buildx(v.buildx), compose(v.compose), tini(v.tini), dockerService];
}
