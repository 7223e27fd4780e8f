// @module-tag full
// Real images of each kind of origin that takes minutes at most are built again from nothing, by their manifests alone.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';

const bin = resolve(import.meta.dirname, '../bin/flatcar-ext');

test.each([
  ['hardening', 'upstream', 'files'],
  ['ripgrep', 'auto', 'debian'],
  ['yq', 'auto', 'go'],
  ['crun@1.21', 'source', 'source'],
])('%s is rebuilt as its manifest says, portable and as a disk image', async (name, choice, origin) => {
  const out = await mkdtemp(join(tmpdir(), 'rebuild-'));
  const run = (...args: string[]): Promise<{ exitCode?: number | undefined; stdout: string; all: string }> =>
    execa(bin, args, { all: true, reject: false });
  try {
    const built = await run('build', name, '--origin', choice, '--release', 'portable,4790.0.0', '--out', out, '--json');
    expect(built.exitCode, built.all).toBe(0);
    const files = (JSON.parse(built.stdout) as { file: string }[]).map(({ file }) => file);
    expect(files).toHaveLength(2);
    const inspected = await run('inspect', files[0] ?? '', '--json');
    expect((JSON.parse(inspected.stdout) as { components: { origin: string }[] }).components.map((one) => one.origin)).toContain(origin);
    const verified = await run('verify', '--rebuild', ...files);
    expect(verified.exitCode, verified.all).toBe(0);
    expect(verified.stdout.match(/rebuilt from nothing: the same bytes/g)).toHaveLength(2);
  } finally {
    await rm(out, { recursive: true, force: true });
  }
});
