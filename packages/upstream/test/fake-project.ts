import type { Arch } from '@flatcar/core/engine';
import { sha, type FakeInternet } from './fake-internet.ts';

const MACHINES: Readonly<Record<Arch, number>> = { 'x86-64': 62, arm64: 183 };

/** A static program: nothing but the header of an ELF file (elf(5)). */
export function program(arch: Arch): Buffer {
  const header = Buffer.alloc(64);
  header.write('\x7fELF', 0, 'latin1');
  header.set([2, 1, 1], 4);
  header.writeUInt16LE(2, 16);
  header.writeUInt16LE(MACHINES[arch], 18);
  header.writeUInt16LE(56, 54);
  header.writeUInt16LE(64, 58);
  return header;
}

/** GitHub's API of the project example/tool. */
export const API = 'api.github.com/repos/example/tool';
/** Where the files of a version are. */
export const downloadsOf = (version: string): string => `github.com/example/tool/releases/download/v${version}`;
/** A release as the API has it. */
export const releaseOf = (
  version: string,
): { tag_name: string; draft: boolean; prerelease: boolean; published_at: string; assets: { name: string; digest: string }[] } => ({
  tag_name: `v${version}`,
  draft: false,
  prerelease: false,
  published_at: '2026-11-01T10:00:00Z',
  assets: (['x86-64', 'arm64'] as const).map((arch) => ({
    name: `tool-linux-${arch === 'arm64' ? 'arm64' : 'amd64'}`,
    digest: `sha256:${sha(Buffer.concat([program(arch), Buffer.from(version)]))}`,
  })),
});

/** A GitHub project with raw programs, as the API and the download host give them. */
export function serveProject(internet: FakeInternet, ...versions: readonly string[]): void {
  const [newest = ''] = versions;
  internet.served
    .set(`${API}/releases/latest`, JSON.stringify(releaseOf(newest)))
    .set(`${API}/releases?per_page=100`, JSON.stringify(versions.map(releaseOf)))
    .set(`${API}/license`, JSON.stringify({ license: { spdx_id: 'MIT' } }))
    .set(API, JSON.stringify({ description: 'A tool that does things. It is fast.' }));
  for (const version of versions) {
    internet.served.set(`${API}/releases/tags/v${version}`, JSON.stringify(releaseOf(version)));
    for (const arch of ['x86-64', 'arm64'] as const)
      internet.served.set(
        `${downloadsOf(version)}/tool-linux-${arch === 'arm64' ? 'arm64' : 'amd64'}`,
        Buffer.concat([program(arch), Buffer.from(version)]),
      );
  }
}
