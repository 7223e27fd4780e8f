import { programName, type ArchWords, type Signature } from '@flatcar/core/engine';
import { NOT_TRIED } from '../source-lint.ts';

/** Everything that a new extension is written from. */
export interface Plan {
  readonly name: string;
  readonly summary: string;
  readonly version: string;
  /** SPDX expression. */
  readonly license: string;
  /** Which branches are kept, as in VersionSource. */
  readonly track: string;
  /** Programs that come to usr/bin. */
  readonly programs: readonly string[];
  /** Where versions are listed, and where assets are when there is no `url`. */
  readonly github?: { readonly repo: string; readonly tagPrefix: string };
  /** Upstream's own file: a name among GitHub's assets, or a whole URL. */
  readonly file?: {
    readonly pattern: string;
    readonly arch?: ArchWords;
    readonly checksum: string;
    readonly signatures: readonly Signature[];
  };
  readonly go?: {
    readonly module: string;
    readonly packages: readonly string[];
    readonly stamps: Readonly<Record<string, string>>;
    readonly tags: readonly string[];
  };
  readonly cargo?: { readonly crate: string; readonly features: readonly string[] };
  readonly debian?: {
    readonly packages: readonly string[];
    readonly suite: string;
    readonly programs: readonly string[];
    /** Files and plugins that programs look for at run time, as `debian()` has them. */
    readonly data?: readonly string[];
    readonly dlopen?: readonly string[];
    /** True where the version is a date, and not that of the first package. */
    readonly dated?: boolean;
    /** What lint would report, with the reason why it is left out. */
    readonly waive?: Readonly<Record<string, string>>;
    /** Versions of the packages that programs come from, where that is another than the component's, by name of the program. */
    readonly versions?: Readonly<Record<string, string>>;
  };
  /** Own files only, by their paths in the image: nothing comes from upstream, and the version is a date. */
  readonly own?: readonly string[];
  /** A service that starts with the image. */
  readonly unit?: { readonly name: string; readonly text: string };
  /** What stands in the image as it is, beside the service. */
  readonly files?: readonly ScaffoldFile[];
  /** What a boot must show. */
  readonly machine?: {
    readonly active: readonly string[];
    readonly runsAs?: Readonly<Record<string, string>>;
    readonly files?: Readonly<Record<string, string>>;
  };
}

/** A file of the new package. */
export interface ScaffoldFile {
  readonly path: string;
  readonly text: string;
}

/** TypeScript for a plain value; oxfmt has the last word on its form. */
function code(value: unknown): string {
  if (typeof value === 'string') return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  if (Array.isArray(value)) return `[${value.map(code).join(', ')}]`;
  if (typeof value === 'object' && value !== null)
    return `{ ${Object.entries(value)
      .filter(([, one]) => one !== undefined)
      .map(([key, one]) => `${/^[a-z]\w*$/i.test(key) ? key : code(key)}: ${code(one)}`)
      .join(', ')} }`;
  return String(value);
}

const call = (name: string, ...args: readonly unknown[]): string =>
  `${name}(${args
    .filter((one) => one !== undefined)
    .map(code)
    .join(', ')})`;
const isEmpty = (value: object): boolean => Object.values(value).every((one) => one === undefined);

function originsOf(plan: Plan): { readonly text: string; readonly uses: string }[] {
  const { file, go, cargo, github } = plan;
  const origins: { text: string; uses: string }[] = [];
  if (file !== undefined) {
    const isAsset = !/^https?:/.test(file.pattern);
    const signature = file.signatures.length > 1 ? file.signatures : file.signatures[0];
    const options = {
      arch: file.arch,
      checksum: isAsset && github !== undefined && file.checksum === 'github' ? undefined : file.checksum,
      signature,
    };
    origins.push({
      text: call(isAsset ? 'releases.asset' : 'upstream', file.pattern, isEmpty(options) ? undefined : options),
      uses: isAsset ? 'github' : 'upstream',
    });
  }
  if (go !== undefined) {
    const wanted = plan.programs;
    const renamed = go.packages.flatMap((folder, index): [string, string][] => {
      const made = programName(folder === '.' ? go.module : `${go.module}/${folder}`);
      const program = wanted[index];
      return program === undefined || program === made ? [] : [[folder, program]];
    });
    const options = {
      tags: go.tags.length === 0 ? undefined : go.tags,
      stamps: Object.keys(go.stamps).length === 0 ? undefined : go.stamps,
      rename: renamed.length === 0 ? undefined : Object.fromEntries(renamed),
    };
    const packages = go.packages.length === 1 ? go.packages[0] : go.packages;
    origins.push({ text: call('go', go.module, packages, isEmpty(options) ? undefined : options), uses: 'go' });
  }
  if (cargo !== undefined)
    origins.push({
      text: call('cargo', cargo.crate, plan.programs, cargo.features.length === 0 ? undefined : { features: cargo.features }),
      uses: 'cargo',
    });
  return origins;
}

/** The page that lists files at a URL, and what their names begin with: all before `{version}`. */
function pageOf(pattern: string): { readonly at: string; readonly tagPrefix: string } {
  const before = pattern.slice(0, Math.max(pattern.indexOf('{version}'), 0)) || pattern;
  const cut = before.lastIndexOf('/') + 1;
  return { at: before.slice(0, cut), tagPrefix: before.slice(cut) };
}

function versionsOf({ github, go, cargo, debian, own, file, track }: Plan): string {
  if (own !== undefined || debian?.dated === true) return code({ kind: 'date', track });
  if (github !== undefined) return 'releases';
  if (go !== undefined) return code({ kind: 'go', module: go.module, track });
  if (cargo !== undefined) return code({ kind: 'crates', crate: cargo.crate, track });
  if (debian !== undefined) return code({ kind: 'debian', package: `${debian.suite}/main/${debian.packages[0] ?? ''}`, track });
  const { at, tagPrefix } = pageOf(file?.pattern ?? '');
  return code({ kind: 'page', url: at, track, tagPrefix });
}

function componentOf(plan: Plan): { readonly text: string; readonly uses: readonly string[] } {
  const { name, programs, debian } = plan;
  if (debian !== undefined) {
    const some = (of: readonly string[] = []): readonly string[] | undefined => (of.length === 0 ? undefined : of);
    const files = {
      programs: debian.programs,
      dlopen: some(debian.dlopen),
      data: some(debian.data),
      suite: debian.suite === 'trixie' ? undefined : debian.suite,
    };
    return { text: `packaged(${code(name)}, version, ${call('debian', debian.packages, files)})`, uses: ['debian', 'packaged'] };
  }
  const origins = originsOf(plan);
  const [only] = programs;
  const isOne = programs.length === 1 && only !== undefined;
  const head = isOne ? `binary(${code(only)}, version` : `programs(${code(name)}, version, ${code(programs)}`;
  return {
    text: `${head}, ${origins.map(({ text }) => text).join(', ')})`,
    uses: [isOne ? 'binary' : 'programs', ...origins.map(({ uses }) => uses)],
  };
}

/** extension.ts, before oxfmt. */
export function definitionText(plan: Plan): string {
  const { name, summary, github, unit, track } = plan;
  const { waive = {} } = plan.debian ?? {};
  const component = plan.own !== undefined ? undefined : componentOf(plan);
  const uses = [...new Set([...(component?.uses ?? []), 'defineExtension', ...(github === undefined ? [] : ['github'])])].toSorted();
  const prefix = github === undefined || github.tagPrefix === 'v' ? undefined : { tagPrefix: github.tagPrefix };
  const releases =
    github === undefined
      ? []
      : [`const releases = ${call('github', github.repo, track === 'newest' && prefix === undefined ? undefined : track, prefix)};`, ''];
  return [
    `import { ${uses.join(', ')} } from '@flatcar/core';`,
    '',
    ...releases,
    'export default defineExtension({',
    `  name: ${code(name)},`,
    `  summary: ${code(summary)},`,
    `  versions: ${versionsOf(plan)},`,
    ...(component === undefined
      ? ['  // All of it is in files/.', '  components: () => [],']
      : [`  components: ({ version }) => [${component.text}],`]),
    ...(unit === undefined ? [] : [`  start: [${code(unit.name)}],`]),
    ...(Object.keys(waive).length === 0 ? [] : [`  waive: ${code(waive)},`]),
    '});',
    '',
  ].join('\n');
}

/** A service unit; what every service wants, and nothing that only some can bear. */
export function serviceText(summary: string, { exec, condition }: { readonly exec: string; readonly condition?: string }): string {
  return [
    '[Unit]',
    `Description=${summary}`,
    'Wants=network-online.target',
    'After=network-online.target',
    ...(condition === undefined ? [] : [`ConditionPathExists=${condition}`]),
    '',
    '[Service]',
    `ExecStart=${exec}`,
    'Restart=on-failure',
    'RestartSec=5',
    '',
  ].join('\n');
}

/** What an extension's test runs, and what it must say. */
export interface Probe {
  readonly run: readonly string[];
  /** `version`: the pinned version; else words that are in what it says. */
  readonly says: string;
  /** True where a digit follows the words: the version of a program in a dated extension. */
  readonly numbered?: boolean;
}

/** Commands of a package that was not built: its test fails until a person fills them in. */
export const untried = ({ programs }: Plan): Probe[] => programs.map((program) => ({ run: [program, '--version'], says: NOT_TRIED }));

const pattern = (words: string, numbered = false): string =>
  `/${words.replaceAll(/[\\^$.*+?()[\]{}|/]/g, String.raw`\$&`)}${numbered ? String.raw`\d` : ''}/`;

/** test/extension.test.ts, before oxfmt. Of programs that no probe runs it asks only that they are there. */
export function testText({ programs, unit, machine, own, files = [] }: Plan, probes: readonly Probe[]): string {
  const commands = probes.map(
    ({ run, says, numbered }) => `    { run: ${code(run)}, says: ${says === 'version' ? "'version'" : pattern(says, numbered)} },`,
  );
  const silent = programs.filter((program) => probes.every(({ run }) => run[0] !== program)).map((program) => `/usr/bin/${program}`);
  const shipped = (own ?? []).filter((path) => !/^usr\/(?:bin|lib\/systemd)\//.test(path)).map((path) => `/${path}`);
  return [
    "import { testExtension } from '@flatcar/testing';",
    '',
    'testExtension(import.meta.dirname, {',
    '  commands: [',
    ...commands,
    '  ],',
    ...(unit === undefined ? [] : [`  units: [${[unit.name, ...unitsIn(files)].map(code).join(', ')}],`]),
    ...(silent.length === 0
      ? []
      : ['  // Not run yet: `new` found no command by which they say what they are. Write one into `commands`.']),
    ...(silent.length + shipped.length === 0 ? [] : [`  paths: ${code([...silent, ...shipped])},`]),
    ...(machine === undefined ? [] : [`  machine: ${code(machine)},`]),
    '});',
    '',
  ].join('\n');
}

/** Services among the files beside the unit. */
const unitsIn = (files: readonly ScaffoldFile[]): string[] =>
  files.flatMap(({ path }) => /^usr\/lib\/systemd\/system\/([^/]+\.service)$/.exec(path)?.[1] ?? []);

function packageText({ name }: Plan): string {
  return `${JSON.stringify(
    {
      name,
      version: '0.0.0',
      private: true,
      license: 'Apache-2.0',
      type: 'module',
      scripts: { build: 'flatcar-ext build' },
      dependencies: { '@flatcar/core': '*' },
      devDependencies: { '@flatcar/cli': '*', '@flatcar/testing': '*' },
    },
    undefined,
    2,
  )}\n`;
}

/** All files of a new package but its pins; the generated part of the README is filled in by `flatcar-ext docs`. */
export function scaffold(plan: Plan, probes: readonly Probe[]): ScaffoldFile[] {
  const { unit, files = [] } = plan;
  return [
    { path: 'extension.ts', text: definitionText(plan) },
    { path: 'test/extension.test.ts', text: testText(plan, probes) },
    { path: 'package.json', text: packageText(plan) },
    ...(unit === undefined ? [] : [{ path: `files/usr/lib/systemd/system/${unit.name}`, text: unit.text }]),
    ...files.map(({ path, text }) => ({ path: `files/${path}`, text })),
  ];
}
