import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { buildGoTool, openTools, parseJson, type Store } from '@flatcar/core/engine';
import * as v from 'valibot';

/** An entry of a database of vulnerabilities: a package of an ecosystem below a version (ossf.github.io/osv-schema). */
export interface Advisory {
  readonly id: string;
  /** Such as `Go`, `crates.io` or `Debian:13`. */
  readonly ecosystem: string;
  readonly name: string;
  /** The first version that is not affected. */
  readonly fixed: string;
}

/** An advisory in OSV's format. */
export function affects({ id, ecosystem, name, fixed }: Advisory): object {
  const type = ecosystem.startsWith('Debian') ? 'ECOSYSTEM' : 'SEMVER';
  const date = '2026-01-01T00:00:00Z';
  return {
    schema_version: '1.6.0',
    id,
    modified: date,
    published: date,
    summary: 'made for a test',
    affected: [{ package: { ecosystem, name }, ranges: [{ type, events: [{ introduced: '0' }, { fixed }] }] }],
  };
}

/** osv-scanner from the Go module proxy, compiled once and kept in the store. */
const scanner = (store: Store): Promise<string> =>
  buildGoTool(join(import.meta.dirname, '../osv-scanner'), { store, tools: openTools(store) });

/** Writes the scanner's own database: an archive for each ecosystem, and one for packages that no ecosystem has. */
async function writeDatabase(dir: string, advisories: readonly Advisory[]): Promise<void> {
  const ecosystems = new Map<string, Advisory[]>([['OSS-Fuzz', []]]);
  for (const one of advisories) {
    const [ecosystem = ''] = one.ecosystem.split(':');
    ecosystems.set(ecosystem, [...(ecosystems.get(ecosystem) ?? []), one]);
  }
  for (const [ecosystem, of] of ecosystems) {
    const folder = join(dir, 'osv-scanner', ecosystem);
    await mkdir(folder, { recursive: true });
    const files = Object.fromEntries(of.map((one) => [`${one.id}.json`, JSON.stringify(affects(one))]));
    const script =
      'import json,sys,zipfile\nwith zipfile.ZipFile(sys.argv[1],"w") as z:\n  for n,t in json.loads(sys.argv[2]).items(): z.writestr(n,t)';
    await promisify(execFile)('python3', ['-c', script, join(folder, 'all.zip'), JSON.stringify(files)]);
  }
}

/** What osv-scanner prints. */
const ScanOutput = v.object({
  results: v.array(
    v.object({
      packages: v.array(v.object({ package: v.object({ name: v.string() }), vulnerabilities: v.array(v.object({ id: v.string() })) })),
    }),
  ),
});

/** Scans SPDX documents by osv-scanner without network, on a database of these advisories alone. Gives `<id> <package>` of each finding, sorted. */
export async function scan(store: Store, documents: readonly string[], advisories: readonly Advisory[]): Promise<string[]> {
  const program = await scanner(store);
  const dir = await mkdtemp(join(tmpdir(), 'advisories-'));
  try {
    await writeDatabase(dir, advisories);
    const config = join(dir, 'config.toml');
    await writeFile(config, '');
    const args = [
      '--experimental-offline',
      '--format',
      'json',
      '--config',
      config,
      ...documents.flatMap((document) => ['--sbom', document]),
    ];
    // 1: something was found.
    const { stdout } = await promisify(execFile)(program, args, {
      env: { OSV_SCANNER_LOCAL_DB_CACHE_DIRECTORY: dir, PATH: process.env['PATH'], HOME: dir },
      maxBuffer: 64 << 20,
    }).catch((error: unknown) => {
      if ((error as { code?: unknown }).code === 1) return error as { stdout: string };
      throw error;
    });
    const { results } = parseJson(ScanOutput, stdout, { what: 'output of osv-scanner', where: program });
    const found = results.flatMap(({ packages }) =>
      packages.flatMap((one) => one.vulnerabilities.map(({ id }) => `${id} ${one.package.name}`)),
    );
    return [...new Set(found)].toSorted();
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
