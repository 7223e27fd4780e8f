// Updates sigstore's trusted root from the npm package that contains it: scripts/run node scripts/pin/sigstore-root.ts
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { $ } from 'zx';

interface Seeds {
  readonly [repository: string]: { readonly targets: Readonly<Record<string, string>> };
}

const temp = await mkdtemp(join(tmpdir(), 'sigstore-root-'));
try {
  // Sigstore's own clients begin with these seeds; npm checks the package against the registry's digest.
  await $({ cwd: temp })`npm pack --silent @sigstore/tuf@latest`;
  await $({ cwd: temp })`tar xzf ${(await $({ cwd: temp })`ls`).stdout.trim()} package/seeds.json`;
  const seeds = JSON.parse(await readFile(join(temp, 'package', 'seeds.json'), 'utf8')) as Seeds;
  const root = seeds['https://tuf-repo-cdn.sigstore.dev']?.targets['trusted_root.json'];
  if (root === undefined) throw new Error('@sigstore/tuf no longer contains a trusted root');
  const file = new URL('../../packages/upstream/src/verify/data/sigstore-trusted-root.json', import.meta.url);
  await writeFile(file, `${JSON.stringify(JSON.parse(Buffer.from(root, 'base64').toString()), undefined, 2)}\n`);
} finally {
  await rm(temp, { recursive: true, force: true });
}
