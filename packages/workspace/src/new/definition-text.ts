import { programName } from '@flatcar/core/engine';
import type { Plan } from './plan.ts';

/** TypeScript for a plain value; oxfmt lays it out. */
export function code(value: unknown): string {
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
    const renamed = go.packages.flatMap((folder, index): [string, string][] => {
      const made = programName(folder === '.' ? go.module : `${go.module}/${folder}`);
      const program = plan.programs[index];
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

/** The page that lists files at a URL, and the beginning of their names: everything before `{version}`. */
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
    const relocate = { plugins: some(debian.plugins), data: some(debian.data) };
    const files = {
      programs: debian.programs,
      relocate: isEmpty(relocate) ? undefined : relocate,
      suite: debian.suite === 'trixie' ? undefined : debian.suite,
    };
    return {
      text: `packaged(${code(debian.component)}, version, ${call('debian', debian.packages, files)})`,
      uses: ['debian', 'packaged'],
    };
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
