import { glob, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cargoHomeOf, downloadCrate, openCargo, openGo, outputOf, parseJson, programName, unpack, UserError } from '@flatcar/core/engine';
import { memoize, type UpstreamContext } from '@flatcar/upstream';
import * as v from 'valibot';
import { licenseIn } from './license-text.ts';

/** What the source of a program contains. */
export interface Source {
  /** Programs, by the name under which they are built. */
  readonly programs: readonly string[];
  /** For Go modules: the main packages, in the order of `programs`. */
  readonly packages: readonly string[];
  /** For Go modules: variables that upstream's own build sets, with `{version}` for the version. */
  readonly stamps: Readonly<Record<string, string>>;
  /** SPDX expression, if it is recognized. */
  readonly license?: string | undefined;
  /** One line, if upstream has one. */
  readonly summary?: string | undefined;
}

/** A template of goreleaser, or a variable of a Makefile or shell, that contains the version; with `v` in front or not. */
const VERSION_WORD =
  /^['"]?(v?)(?:\{\{ *\.(?:Version|Tag) *\}\}|\$[({]?(?:(?:BUILD|RELEASE|GIT|IMAGE|BINARY|APP|PKG|CLI)_)?(?:VERSION|TAG)[)}]?)['"]?\)?$/;

/** The `-X` stamps of versions in upstream's own build files. */
async function stampsIn(dir: string, module: string): Promise<Record<string, string>> {
  const stamps: Record<string, string> = {};
  for await (const name of glob(['.goreleaser*.y{a,}ml', '.goreleaser/*.y{a,}ml', 'Makefile', '.promu.yml', 'GNUmakefile'], { cwd: dir })) {
    const text = await readFile(join(dir, name), 'utf8').catch(() => '');
    const variables = Object.fromEntries(
      [...text.matchAll(/^\s*([A-Z_]+)\s*[:?]?=\s*(\S+)\s*$/gm)].map(([, key = '', value = '']) => [key, value]),
    );
    for (const [, left = '', right = ''] of text.matchAll(/-X[ =]+['"]?([^\s='"]+)=((?:\{\{[^{}\n]*\}\}|\S)+)/g)) {
      const variable = left
        .replaceAll(/\$[({](\w+)[)}]/g, (whole, key: string) => variables[key] ?? whole)
        .replaceAll('{{repoPath}}', module);
      const word = VERSION_WORD.exec(right);
      if (word === null || !/^[\w./-]+$/.test(variable)) continue;
      const isTag = /Tag|TAG|GIT/.test(right);
      stamps[variable] ??= `${isTag || word[1] === 'v' ? 'v' : ''}{version}`;
    }
  }
  return stamps;
}

/** Folder of a module's source in the module cache. */
async function downloadModule(module: string, version: string, context: UpstreamContext): Promise<string> {
  const { store, tools, report } = context;
  const go = await memoize(context, 'go', () => openGo(store, tools, report));
  const where = `${module}@v${version}`;
  const output = await go
    .online(['mod', 'download', '-json', where], { cwd: '/', env: { GOFLAGS: '-modcacherw' } })
    .catch((error: unknown) => {
      const needed = /requires go (?:>=|\\u003e=) ([\d.]+)/.exec(outputOf(error))?.[1];
      if (needed === undefined) throw error;
      throw new UserError(`${module} ${version} needs Go ${needed}, but the pinned compiler is ${go.record.version}`, {
        where: 'packages/core/src/tools/data/go-toolchain.json',
        next: 'pass an older --version, or pin a newer compiler',
        cause: error,
      });
    });
  return parseJson(v.object({ Dir: v.string() }), output, { what: 'output of go mod download', where }).Dir;
}

/** True if a folder has a file of `package main` that is built. */
async function isMainPackage(dir: string): Promise<boolean> {
  const files = await readdir(dir).catch(() => []);
  for (const file of files.filter((one) => one.endsWith('.go') && !one.endsWith('_test.go'))) {
    const text = await readFile(join(dir, file), 'utf8');
    if (/^package main\b/m.test(text) && !/^\/\/go:build .*ignore/m.test(text)) return true;
  }
  return false;
}

/** Inspects a Go module: its main packages in the usual places, the stamps of its own build, its licence. */
export async function inspectGo(module: string, version: string, context: UpstreamContext): Promise<Source> {
  const dir = await downloadModule(module, version, context);
  const usual = await Array.fromAsync(glob('{cmd,cmd/*,app,main,cli}/', { cwd: dir }));
  const packages: string[] = [];
  for (const folder of new Set(['.', ...usual.map((one) => one.replace(/\/$/, ''))].toSorted()))
    if (await isMainPackage(join(dir, folder))) packages.push(folder);
  return {
    packages,
    programs: packages.map((folder) => programName(folder === '.' ? module : `${module}/${folder}`)),
    stamps: await stampsIn(dir, module),
    license: await licenseIn(dir),
  };
}

/** The part of the output of `cargo read-manifest` that is used. */
const CargoManifest = v.object({
  targets: v.array(v.object({ kind: v.array(v.string()), name: v.string() })),
  license: v.nullish(v.string()),
  description: v.nullish(v.string()),
});

/** Inspects a crate: programs, licence and description of its manifest. */
export async function inspectCargo(crate: string, version: string, context: UpstreamContext): Promise<Source> {
  const { store, toolchains, signal } = context;
  const cargo = await openCargo((await toolchains.rust()).bin, cargoHomeOf(store), { signal });
  const file = await downloadCrate(cargo, crate, version);
  return store.withTemp(async (temp) => {
    await unpack(file, `${crate}.tar.gz`, temp);
    const output = await cargo.run(['read-manifest', '--manifest-path', join(temp, `${crate}-${version}`, 'Cargo.toml')]);
    const { targets, license, description } = parseJson(CargoManifest, output, {
      what: 'manifest of the crate',
      where: `${crate} ${version}`,
    });
    const programs = targets.filter(({ kind }) => kind.includes('bin')).map(({ name }) => name);
    if (programs.length === 0)
      throw new UserError(`the crate ${crate} has no programs`, { next: 'pass the crate that contains the command' });
    return {
      programs,
      packages: [],
      stamps: {},
      license: license?.replace('/', ' OR '),
      summary: description === undefined || description === null ? undefined : oneLine(description),
    };
  });
}

/** A description as a summary: its first sentence, in one line, without a full stop. */
export function oneLine(text: string): string {
  return (
    text
      .trim()
      .split(/\n\s*\n|\.\s/)[0]
      ?.replaceAll(/\s+/g, ' ')
      .replace(/\.$/, '')
      .trim() ?? ''
  );
}
