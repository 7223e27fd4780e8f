import { chmod, glob, readFile, stat } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';
import {
  ARCHES,
  archWords,
  isPackageLocator,
  componentsOf,
  findExtensions,
  jsonObject,
  lineOf,
  lineOfPath,
  loadExtension,
  locatorOf,
  parseJson,
  SOURCE_RULES,
  writeAtomic,
  type Arch,
  type DebianOrigin,
  type LoadedExtension,
  type PinnedVersion,
} from '@flatcar/core/engine';
import { packagingProblems, refreshPackaging } from './packaging-check.ts';
import { packageLock, updatePackageLock } from './package-lock.ts';
import { REPOSITORY } from './select.ts';
import { readmeText, rootReadmeText, writeReadme, writeRootReadme } from './readme.ts';

/** A fault in the sources of an extension. */
export interface SourceFinding {
  readonly rule: string;
  readonly level: 'error' | 'warning';
  readonly what: string;
  /** File and line to change. */
  readonly where: string;
  readonly fix: string;
  /** Repairs the fault; undefined if only a person can. */
  readonly repair?: () => Promise<unknown>;
}

/** What a scaffolded test expects a program to print that nobody ran: no program prints it, and `flatcar-ext lint` reports the line. */
export const NOT_TRIED = 'NOT TRIED';

const found = (rule: keyof typeof SOURCE_RULES, what: string, where: string, repair?: () => Promise<unknown>): SourceFinding => ({
  rule,
  level: SOURCE_RULES[rule].level,
  what,
  where,
  fix: SOURCE_RULES[rule].fix,
  repair,
});

/**
 * The packages that an origin names and a lock does not pin, for each architecture that lacks them. Packages that these depend on are not
 * in the definition: `pin` resolves them.
 */
function missingPackages({ packages }: DebianOrigin, pin: PinnedVersion): string[] {
  const locators = Object.keys(pin.bytes).filter(isPackageLocator);
  if (locators.length === 0) return packages.map((name) => `the package ${name}`);
  return packages.flatMap((name) => {
    const own = locators.filter((locator) => basename(locator).startsWith(`${name}_`));
    const isFor = (arch: Arch): boolean =>
      own.some((locator) => locator.endsWith('_all.deb') || locator.endsWith(`_${archWords(arch).debian}.deb`));
    return own.length === 0 ? [] : ARCHES.filter((arch) => !isFor(arch)).map((arch) => `the package ${name} for ${arch}`);
  });
}

async function pins(loaded: LoadedExtension): Promise<SourceFinding[]> {
  const { findUnused, pruneLock } = await import('@flatcar/upstream');
  const { dir } = loaded;
  const file = join(dir, 'pins.json');
  const text = await readFile(file, 'utf8');
  const at = (...keys: readonly string[]): string => `${file}:${lineOfPath(text, keys)}`;
  const repair = async (): Promise<unknown> => pruneLock(await loadExtension(dir), []);
  const unused = await findUnused(loaded);
  const findings = [
    ...unused.bytes.map(({ version, locator }) =>
      found('unused-pin', `${version} pins ${locator}, which no component uses`, at(version, 'bytes', locator), repair),
    ),
    ...unused.licenses.map(({ version, component }) =>
      found(
        'unused-pin',
        `${version} has a licence for '${component}', which is not a component`,
        at(version, 'licenses', component),
        repair,
      ),
    ),
    ...unused.lockModules.map((folder) =>
      found('unused-lock-module', `no pinned version builds ${relative(dir, folder)}`, `${folder}/go.mod:1`, repair),
    ),
  ];
  for (const version of Object.keys(loaded.pins)) {
    for (const { component, pin, dir: lock } of (await componentsOf(loaded, version)).components) {
      const missing = component.origins.map((origin) =>
        origin.kind === 'debian'
          ? missingPackages(origin, pin)
          : ARCHES.map((arch) => locatorOf(origin, component, arch)).filter(
              (locator) => locator !== undefined && pin.bytes[locator] === undefined,
            ),
      );
      // A version for which upstream has no file may still be built from source: a warning, not an error.
      const isBuildable = missing.length === 0 || missing.some((locators) => locators.length === 0);
      for (const locator of new Set(missing.flat())) {
        const where = lock === dir ? at(version, 'bytes') : `${join(lock, 'pins.json')}:1`;
        const finding = {
          ...found('missing-pin', `${component.name} ${component.version} has no pin of ${locator ?? ''}`, where),
          fix:
            lock === dir ? `flatcar-ext pin ${loaded.extension.name}@${version}` : 'pin the shared component (docs/adding-an-extension.md)',
        };
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

/** Licenses that do not permit everybody to distribute a program, or to distribute it for any use. */
const RESTRICTED = /^(?:BUSL-|Elastic-|PolyForm-|Prosperity-|Parity-|CC-BY(?:-SA)?-N[CD])/;

async function licenses({ dir, extension, pins: pinned }: LoadedExtension): Promise<SourceFinding[]> {
  if (extension.localOnly !== '') return [];
  const file = join(dir, 'pins.json');
  const restricted = Object.entries(pinned).flatMap(([version, pin]) =>
    Object.entries(pin.licenses).flatMap(([component, license]) =>
      license.split(' OR ').every((choice) => choice.split(/[\s()]+/).some((name) => RESTRICTED.test(name)))
        ? [{ version, component, license }]
        : [],
    ),
  );
  if (restricted.length === 0) return [];
  const text = await readFile(file, 'utf8');
  return restricted.map(({ version, component, license }) =>
    found(
      'restricted-license',
      `${component} is licensed under ${license}`,
      `${file}:${lineOfPath(text, [version, 'licenses', component])}`,
    ),
  );
}

type Dependencies = Readonly<Record<string, string>>;

/** Packages of this repository that an extension's files matching a pattern import, as npm's dependencies. */
async function imported(dir: string, pattern: string): Promise<Dependencies> {
  const files = await Array.fromAsync(glob(pattern, { cwd: dir }));
  const texts = await Promise.all(files.map((file) => readFile(join(dir, file), 'utf8')));
  const names = texts.flatMap((text) => [...text.matchAll(/\bfrom '(@flatcar\/[a-z-]+)(?:\/[^']*)?'/g)].map(([, name = '']) => name));
  return Object.fromEntries(names.map((name) => [name, '*']));
}

async function packageJson({ dir, extension }: LoadedExtension): Promise<SourceFinding[]> {
  const file = join(dir, 'package.json');
  const text = await readFile(file, 'utf8').catch(() => '{}');
  const json = parseJson(jsonObject, text, { what: 'package.json', where: file });
  const dependencies = { '@flatcar/core': '*', ...(await imported(dir, 'extension.ts')) };
  const forTests = { '@flatcar/cli': '*', '@flatcar/testing': '*', ...(await imported(dir, 'test/*.ts')) };
  const devDependencies = Object.fromEntries(Object.entries(forTests).filter(([name]) => !(name in dependencies)));
  const fixed: Record<string, unknown> = {
    name: extension.name,
    version: '0.0.0',
    private: true,
    license: 'Apache-2.0',
    type: 'module',
    scripts: { build: 'flatcar-ext build' },
  };
  // Other dependencies may be listed, for example those of a test.
  const merged = (key: 'dependencies' | 'devDependencies', least: Dependencies): Dependencies => {
    const all = { ...least, ...(json[key] as Dependencies | undefined) };
    return Object.fromEntries(Object.entries(all).toSorted(([a], [b]) => (a < b ? -1 : 1)));
  };
  const wanted: Record<string, unknown> = {
    ...fixed,
    dependencies: merged('dependencies', dependencies),
    devDependencies: merged('devDependencies', devDependencies),
  };
  const names = (value: unknown): string[] => Object.keys(value ?? {}).toSorted();
  const isRight = (key: string): boolean =>
    key in fixed ? JSON.stringify(json[key]) === JSON.stringify(wanted[key]) : names(json[key]).join(' ') === names(wanted[key]).join(' ');
  const wrong = Object.keys(wanted).filter((key) => !isRight(key));
  const lock = parseJson(jsonObject, await readFile(packageLock, 'utf8'), { what: 'package-lock.json', where: packageLock });
  const path = relative(REPOSITORY, dir);
  const entry = (lock['packages'] as Record<string, Record<string, unknown>> | undefined)?.[path];
  // The lock has no entries for folders outside the repository.
  const isLocked =
    path.startsWith('..') ||
    ['dependencies', 'devDependencies'].every((key) => names(entry?.[key]).join(' ') === names(wanted[key]).join(' '));
  return [
    ...wrong.map((key) =>
      found('package', `"${key}" must be ${JSON.stringify(wanted[key])}`, `${file}:${lineOfPath(text, [key])}`, () =>
        writeAtomic(file, `${JSON.stringify({ ...wanted, ...json, ...wanted }, undefined, 2)}\n`),
      ),
    ),
    ...(isLocked
      ? []
      : [found('package', `the entry of ${extension.name} is missing or not current`, `${packageLock}:1`, () => updatePackageLock())]),
  ];
}

/** Checks the list of all extensions in the root README of a repository. */
export async function lintRootReadme(repository: string = REPOSITORY): Promise<SourceFinding[]> {
  const file = join(repository, 'README.md');
  const before = await readFile(file, 'utf8');
  const after = await rootReadmeText(before, await findExtensions(repository), file);
  const lines = after.split('\n');
  const line = before.split('\n').findIndex((one, index) => one !== lines[index]) + 1;
  return before === after ? [] : [found('readme', 'is not current', `${file}:${line}`, () => writeRootReadme(repository))];
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
      // git keeps the executable bit only: a umask must not cause findings.
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
  const testFile = join(dir, 'test/extension.test.ts');
  const test = await readFile(testFile, 'utf8').catch(() => undefined);
  const open = (test ?? '').split('\n').flatMap((text, index) => (text.includes(`/${NOT_TRIED}/`) ? [index + 1] : []));
  return [
    ...(before === after ? [] : [found('readme', 'is not current', `${file}:${line}`, () => writeReadme(dir))]),
    ...(test === undefined ? [found('no-test', `${basename(dir)} has no test`, testFile)] : []),
    ...open.map((number) => found('not-tried', 'the output that the test expects was never observed', `${testFile}:${number}`)),
  ];
}

/** Repairs the faults in an extension's folder that a program can repair. */
export async function fixSource(dir: string): Promise<void> {
  // Twice: a repair may cause another fault, since the lock's digest covers file modes.
  for (let round = 0; round < 2; round += 1) for (const { repair } of await lintSource(await loadExtension(dir))) await repair?.();
}

/** Checks the sources of an extension; needs no images. */
export async function lintSource(loaded: LoadedExtension): Promise<SourceFinding[]> {
  return (await Promise.all([pins(loaded), licenses(loaded), packageJson(loaded), files(loaded), texts(loaded), packaging(loaded)])).flat();
}
