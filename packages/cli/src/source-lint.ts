import { chmod, glob, readFile, stat } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';
import {
  ARCHES,
  componentsOf,
  jsonObject,
  lineOf,
  lineOfKeys,
  loadExtension,
  locatorOf,
  parseJson,
  SOURCE_RULES,
  writeAtomic,
  type LoadedExtension,
} from '@flatcar/core';
import { packagingProblems, refreshPackaging } from './packaging.ts';
import { writeReadme, readmeText } from './readme.ts';

/** Something in an extension's folder that is not as it must be. */
export interface SourceFinding {
  readonly rule: string;
  readonly level: 'error' | 'warning';
  readonly what: string;
  /** File and line to change. */
  readonly where: string;
  readonly fix: string;
  /** Mends it, where a program can. */
  readonly mend?: () => Promise<unknown>;
}

const found = (rule: keyof typeof SOURCE_RULES, what: string, where: string, mend?: () => Promise<unknown>): SourceFinding => ({
  rule,
  level: SOURCE_RULES[rule].level,
  what,
  where,
  fix: SOURCE_RULES[rule].fix,
  mend,
});

async function pins(loaded: LoadedExtension): Promise<SourceFinding[]> {
  const { findUnused, pruneLock } = await import('@flatcar/upstream');
  const { dir } = loaded;
  const file = join(dir, 'pins.json');
  const text = await readFile(file, 'utf8');
  const at = (...keys: readonly string[]): string => `${file}:${lineOfKeys(text, keys)}`;
  const mend = async (): Promise<unknown> => pruneLock(await loadExtension(dir), []);
  const unused = await findUnused(loaded);
  const findings = [
    ...unused.bytes.map(({ version, locator }) =>
      found('unused-pin', `${version} pins ${locator}, which no component asks for`, at(version, 'bytes', locator), mend),
    ),
    ...unused.licenses.map(({ version, component }) =>
      found('unused-pin', `${version} has the licence of '${component}', which is no component`, at(version, 'licenses', component), mend),
    ),
    ...unused.wrappers.map((folder) =>
      found('unused-wrapper', `no pinned version builds ${relative(dir, folder)}`, `${folder}/go.mod:1`, mend),
    ),
  ];
  for (const version of Object.keys(loaded.pins)) {
    for (const { component, pin, dir: lock } of (await componentsOf(loaded, version)).components) {
      const missing = component.origins.map((origin) =>
        // Debian packages are pinned one by one, by names that the definition does not have.
        ARCHES.map((arch) => locatorOf(origin, component, arch)).filter(
          (locator) => locator !== undefined && !locator.startsWith('debian:') && pin.bytes[locator] === undefined,
        ),
      );
      // A version that upstream has no file of may still be built from source: that is told, and no error.
      const isBuildable = missing.length === 0 || missing.some((locators) => locators.length === 0);
      for (const locator of new Set(missing.flat())) {
        const where = lock === dir ? at(version, 'bytes') : `${join(lock, 'pins.json')}:1`;
        const finding = found('missing-pin', `${component.name} ${component.version} has no pin of ${locator ?? ''}`, where);
        findings.push(isBuildable ? { ...finding, level: 'warning' } : finding);
      }
    }
  }
  return findings;
}

async function packaging(loaded: LoadedExtension): Promise<SourceFinding[]> {
  return (await packagingProblems(loaded)).map(({ version, what, where, next, refresh }) => ({
    ...found('packaging', what, where, refresh ? () => refreshPackaging(loaded.dir, version) : undefined),
    fix: next,
  }));
}

async function packageJson({ dir, extension }: LoadedExtension): Promise<SourceFinding[]> {
  const file = join(dir, 'package.json');
  const text = await readFile(file, 'utf8').catch(() => '{}');
  const json = parseJson(jsonObject, text, { what: 'package.json', where: file });
  const wanted: Record<string, unknown> = {
    name: extension.name,
    version: '0.0.0',
    private: true,
    license: 'Apache-2.0',
    type: 'module',
    scripts: { build: 'flatcar-ext build' },
  };
  const wrong = Object.keys(wanted).filter((key) => JSON.stringify(json[key]) !== JSON.stringify(wanted[key]));
  return wrong.map((key) =>
    found('package', `"${key}" must be ${JSON.stringify(wanted[key])}`, `${file}:${lineOfKeys(text, [key])}`, () =>
      writeAtomic(file, `${JSON.stringify({ ...wanted, ...json, ...wanted }, undefined, 2)}\n`),
    ),
  );
}

async function files({ dir }: LoadedExtension): Promise<SourceFinding[]> {
  const texts = await Array.fromAsync(
    glob(
      [
        'usr/lib/systemd/**/*.{service,socket,timer,path,mount,target,slice,conf,network}',
        'usr/lib/{tmpfiles.d,sysusers.d,sysctl.d,modules-load.d}/*',
        'usr/share/**/*.{conf,toml,yaml,yml,json}',
      ],
      { cwd: join(dir, 'files') },
    ),
  );
  const findings = await Promise.all(
    texts.map(async (path) => {
      const file = join(dir, 'files', path);
      const { mode } = await stat(file);
      // git keeps the executable bit only; what a umask did is no finding.
      return (mode & 0o111) === 0 ? [] : [found('file-mode', `mode ${(mode & 0o777).toString(8)}`, `${file}:1`, () => chmod(file, 0o644))];
    }),
  );
  return findings.flat();
}

async function texts(loaded: LoadedExtension): Promise<SourceFinding[]> {
  const { dir } = loaded;
  const file = join(dir, 'README.md');
  const before = await readFile(file, 'utf8').catch(() => undefined);
  const after = await readmeText(loaded, before);
  const line = before === undefined ? 1 : lineOf(before, [before.split('\n').find((one, index) => one !== after.split('\n')[index]) ?? '']);
  const { NOT_TRIED } = await import('@flatcar/upstream');
  const testFile = join(dir, 'extension.test.ts');
  const test = await readFile(testFile, 'utf8').catch(() => undefined);
  const open = (test ?? '').split('\n').flatMap((text, index) => (text.includes(`/${NOT_TRIED}/`) ? [index + 1] : []));
  return [
    ...(before === after ? [] : [found('readme', 'is not current', `${file}:${line}`, () => writeReadme(dir))]),
    ...(test === undefined ? [found('no-test', `${basename(dir)} has no test`, testFile)] : []),
    ...open.map((number) => found('not-tried', 'what the program says was not tried', `${testFile}:${number}`)),
  ];
}

/** Mends what a program can, and what only shows then: a file's mode is part of the lock's digest. */
export async function mendSource(dir: string): Promise<void> {
  for (let round = 0; round < 2; round += 1) for (const { mend } of await lintSource(await loadExtension(dir))) await mend?.();
}

/** Checks what stands in an extension's folder; needs no images. */
export async function lintSource(loaded: LoadedExtension): Promise<SourceFinding[]> {
  return (await Promise.all([pins(loaded), packageJson(loaded), files(loaded), texts(loaded), packaging(loaded)])).flat();
}
