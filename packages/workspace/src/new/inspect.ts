import { glob, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Arch,
  ARCHES,
  archiveKind,
  archWords,
  cargoHomeOf,
  downloadCrate,
  openCargo,
  openGo,
  outputOf,
  parseJson,
  programName,
  readElf,
  unpack,
  UserError,
  walk,
} from '@flatcar/core/engine';
import * as v from 'valibot';
import { memoize, type UpstreamContext } from '@flatcar/upstream';

/** What the source of a program says of itself. */
export interface Source {
  /** Programs, by the name that they are built under. */
  readonly programs: readonly string[];
  /** Of Go modules: the main packages, in the order of `programs`. */
  readonly packages: readonly string[];
  /** Of Go modules: variables that upstream's own build stamps, with `{version}` filled in later. */
  readonly stamps: Readonly<Record<string, string>>;
  /** SPDX expression, where it is recognised. */
  readonly license?: string;
  /** One line, where upstream has one. */
  readonly summary?: string;
}

/** Beginnings that tell the licences apart that programs usually have. */
const LICENSES: readonly (readonly [RegExp, string])[] = [
  [/Apache License,? Version 2\.0/, 'Apache-2.0'],
  [/Mozilla Public License,? [Vv]ersion 2\.0/, 'MPL-2.0'],
  [/GNU AFFERO GENERAL PUBLIC LICENSE Version 3/, 'AGPL-3.0-only'],
  [/GNU LESSER GENERAL PUBLIC LICENSE Version 3/, 'LGPL-3.0-only'],
  [/GNU GENERAL PUBLIC LICENSE Version 3/, 'GPL-3.0-only'],
  [/GNU GENERAL PUBLIC LICENSE Version 2/, 'GPL-2.0-only'],
  [/Permission to use, copy, modify, and(?:\/or)? distribute this software for any/, 'ISC'],
  [/Redistribution and use in source and binary forms[\s\S]*Neither the name/, 'BSD-3-Clause'],
  [/Redistribution and use in source and binary forms/, 'BSD-2-Clause'],
  [/Permission is hereby granted, free of charge, to any person obtaining a copy/, 'MIT'],
];

/** SPDX id of a licence text; undefined for what is not among the usual. A person confirms it. */
export function recognizeLicense(text: string): string | undefined {
  const words = text.replaceAll(/\s+/g, ' '); // lines are broken differently everywhere
  return LICENSES.find(([pattern]) => pattern.test(words))?.[1];
}

async function licenseIn(dir: string): Promise<string | undefined> {
  const names = (await readdir(dir)).filter((name) => /^(?:licen[cs]e|copying)(?:[.-].*)?$/i.test(name)).toSorted();
  const found = new Set(
    (await Promise.all(names.map(async (name) => recognizeLicense(await readFile(join(dir, name), 'utf8'))))).filter(
      (one) => one !== undefined,
    ),
  );
  return found.size === 1 ? [...found][0] : undefined;
}

/** A template of goreleaser, a Makefile's or a shell's variable that stands for the version; `v` in front where it counts. */
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
    for (const [, left = '', right = ''] of text.matchAll(/-X[ =]+['"]?([^\s='"]+)=(\S+)/g)) {
      const variable = left
        .replaceAll(/\$[({](\w+)[)}]/g, (whole, key: string) => variables[key] ?? whole)
        .replaceAll('{{repoPath}}', module);
      const word = VERSION_WORD.exec(right);
      if (word === null || !/^[\w./-]+$/.test(variable)) continue;
      const isTag = /Tag|TAG|GIT/.test(right);
      stamps[variable] ??= `${isTag || word[1] === 'v' ? 'v' : ''}{version}`;
    }
    // promu has them as a list of `-X path=template`, which the same pattern reads.
  }
  return stamps;
}

/** Looks into a Go module: its main packages at the usual places, the stamps of its own build, its licence. */
export async function inspectGo(module: string, version: string, context: UpstreamContext): Promise<Source> {
  const { store, tools, report } = context;
  const go = await memoize(context, 'go', () => openGo(store, tools, report));
  const said = await go
    .online(['mod', 'download', '-json', `${module}@v${version}`], { cwd: '/', env: { GOFLAGS: '-modcacherw' } })
    .catch((error: unknown) => {
      const needed = /requires go (?:>=|\\u003e=) ([\d.]+)/.exec(outputOf(error))?.[1];
      if (needed === undefined) throw error;
      throw new UserError(`${module} ${version} needs Go ${needed}, and the pinned compiler is ${go.record.version}`, {
        where: 'packages/core/src/tools/data/go-toolchain.json',
        next: 'say an older --version, or pin a newer compiler',
        cause: error,
      });
    });
  const { Dir: dir } = parseJson(v.object({ Dir: v.string() }), said, {
    what: 'output of go mod download',
    where: `${module}@v${version}`,
  });
  const folders = ['.', ...(await Array.fromAsync(glob('{cmd,cmd/*,app,main,cli}/', { cwd: dir })))]
    .map((one) => one.replace(/\/$/, ''))
    .toSorted();
  const packages: string[] = [];
  for (const folder of new Set(folders)) {
    const files = await readdir(join(dir, folder)).catch(() => []);
    for (const file of files.filter((one) => one.endsWith('.go') && !one.endsWith('_test.go'))) {
      const text = await readFile(join(dir, folder, file), 'utf8');
      if (!/^package main\b/m.test(text) || /^\/\/go:build .*ignore/m.test(text)) continue;
      packages.push(folder);
      break;
    }
  }
  const license = await licenseIn(dir);
  return {
    packages,
    programs: packages.map((folder) => programName(folder === '.' ? module : `${module}/${folder}`)),
    stamps: await stampsIn(dir, module),
    ...(license === undefined ? {} : { license }),
  };
}

/** What `cargo read-manifest` prints, as far as it is used. */
const CargoManifest = v.object({
  targets: v.array(v.object({ kind: v.array(v.string()), name: v.string() })),
  license: v.nullish(v.string()),
  description: v.nullish(v.string()),
});

/** Looks into a crate: programs, licence and description as its manifest has them. */
export async function inspectCargo(crate: string, version: string, context: UpstreamContext): Promise<Source> {
  const { store, toolchains, signal } = context;
  const cargo = await openCargo((await toolchains.rust()).bin, cargoHomeOf(store), signal === undefined ? {} : { signal });
  const file = await downloadCrate(cargo, crate, version);
  return store.withTemp(async (temp) => {
    await unpack(file, `${crate}.tar.gz`, temp);
    const said = await cargo.run(['read-manifest', '--manifest-path', join(temp, `${crate}-${version}`, 'Cargo.toml')]);
    const { targets, license, description } = parseJson(CargoManifest, said, {
      what: 'manifest of the crate',
      where: `${crate} ${version}`,
    });
    const programs = targets.filter(({ kind }) => kind.includes('bin')).map(({ name }) => name);
    if (programs.length === 0) throw new UserError(`the crate ${crate} has no programs`, { next: 'say the crate that brings the command' });
    return {
      programs,
      packages: [],
      stamps: {},
      ...(license === undefined || license === null ? {} : { license: license.replace('/', ' OR ') }),
      ...(description === undefined || description === null ? {} : { summary: oneLine(description) }),
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

/** What is in an upstream file for one architecture. */
export interface Layout {
  /** Programs by name, the shortest path first where a name comes twice. */
  readonly programs: readonly string[];
  /** Those that need libraries of the host. */
  readonly dynamic: readonly string[];
  readonly license?: string;
}

/** Unpacks an upstream file and looks for programs of an architecture; a file that is one program is called `name`. */
export async function inspectFile(path: string, fileName: string, name: string, arch: Arch, context: UpstreamContext): Promise<Layout> {
  return context.store.withTemp(async (temp) => {
    const isRaw = archiveKind(fileName).archive === 'raw';
    await unpack(path, fileName, temp, { decompressor: (kind) => context.tools.command(kind), single: isRaw ? name : undefined });
    const files = (await walk(temp)).filter(({ type }) => type === 'file');
    const programs: string[] = [];
    const dynamic: string[] = [];
    for (const entry of files) {
      const elf = await readElf(entry.full).catch(() => undefined);
      if (elf === undefined || elf.machine !== archWords(arch).elf || /\.so(?:\.|$)/.test(entry.name)) continue;
      if (programs.includes(entry.name)) continue;
      programs.push(entry.name);
      if (elf.interpreter !== undefined) dynamic.push(entry.name);
    }
    if (programs.length === 0) {
      const other = ARCHES.find((one) => one !== arch);
      throw new UserError(`there is no program for ${arch} in it`, {
        where: fileName,
        next: `it has ${
          files
            .map((one) => one.name)
            .slice(0, 10)
            .join(', ') || 'nothing'
        }; is it for ${other}?`,
      });
    }
    const license = files.find((entry) => /^(?:licen[cs]e|copying)(?:[.-].*)?$/i.test(entry.name));
    const found = license === undefined ? undefined : recognizeLicense(await readFile(license.full, 'utf8'));
    return { programs: programs.toSorted(), dynamic, ...(found === undefined ? {} : { license: found }) };
  });
}
