import { DefinitionError } from './definition-error.ts';
import { componentProblems, definitionProblems } from './schema.ts';
import type { DefinitionProblem } from './schema-kit.ts';
import type {
  ArchWords,
  CargoOrigin,
  Component,
  DebianOrigin,
  Extension,
  ExtensionDefinition,
  GoOrigin,
  Origin,
  Published,
  UpstreamOrigin,
  SourceOrigin,
  Versions,
} from './types.ts';
import type { VersionSource } from './version-source.ts';

/** Problems of the components of an invalid definition, so that all problems are reported at once. */
function moreProblems({ components, coupled }: Partial<ExtensionDefinition>): DefinitionProblem[] {
  const names = typeof coupled === 'object' && coupled !== null ? Object.keys(coupled) : [];
  const versions = Object.fromEntries([...names, 'version'].map((name) => [name, '1.2.3']));
  try {
    return typeof components === 'function' ? componentProblems(components(versions)) : [];
  } catch {
    return []; // reported once the rest is valid
  }
}

/**
 * Checks a definition and adds the defaults. Its components are checked at each call of `components`. Throws a DefinitionError with all problems.
 */
export function defineExtension<Coupled extends string = never>(definition: ExtensionDefinition<Coupled>): Extension {
  const problems = definitionProblems(definition);
  if (problems.length > 0) throw new DefinitionError([...problems, ...moreProblems(definition)]);
  const components = (versions: Versions<string>): readonly Component[] => {
    const made = definition.components(versions);
    const wrong = componentProblems(made);
    if (wrong.length > 0) throw new DefinitionError(wrong);
    return made;
  };
  return {
    kind: 'sysext',
    start: [],
    requiredPaths: [],
    releaseBound: false,
    replaces: [],
    requires: [],
    conflicts: [],
    essential: false,
    follow: 'latest',
    waive: {},
    ...definition,
    coupled: definition.coupled ?? {},
    localOnly: definition.localOnly ?? '',
    components,
  };
}

/** A component that is one program in usr/bin. */
export function binary(name: string, version: string, ...origins: readonly Origin[]): Component {
  return { name, version, origins, install: [{ from: name, to: 'usr/bin/' }] };
}

/** A component of several programs: `bin('containerd', v, ['containerd', 'ctr'], …origins)`. */
export function programs(name: string, version: string, from: readonly string[], ...origins: readonly Origin[]): Component {
  return { name, version, origins, install: from.map((program) => ({ from: program, to: 'usr/bin/' })) };
}

/** Upstream's own download, with the checksums and signatures that upstream publishes. */
export function upstream(url: string, options: { arch?: ArchWords } & Published = {}): UpstreamOrigin {
  return { kind: 'upstream', url, ...options };
}

/** A Go program from the module proxy. */
export function go(
  module: string,
  packages: string | readonly string[],
  options: Omit<GoOrigin, 'kind' | 'module' | 'packages'> = {},
): GoOrigin {
  return { kind: 'go', module, packages: typeof packages === 'string' ? [packages] : packages, ...options };
}

/** A Rust program from the crates registry. */
export function cargo(
  crate: string,
  programs: readonly string[],
  options: Omit<CargoOrigin, 'kind' | 'crate' | 'programs'> = {},
): CargoOrigin {
  return { kind: 'cargo', crate, programs, ...options };
}

/** A C program from a Debian source package. */
export function source(path: string, script: string): SourceOrigin {
  return { kind: 'source', path, script };
}

/** Programs from Debian's packages: `debian(['strace', 'gdb'], { programs: ['strace', 'gdb'] })`. */
export function debian(
  packages: readonly string[],
  files: Omit<DebianOrigin, 'kind' | 'packages' | 'suite'> & { suite?: string },
): DebianOrigin {
  return { kind: 'debian', packages, suite: 'trixie', ...files };
}

/** A component of files from Debian's packages, each at the path that the origin chooses. */
export function packaged(name: string, version: string, origin: DebianOrigin): Component {
  return { name, version, origins: [origin], install: [{ from: '**', to: '' }] };
}

/** A GitHub project: a version source that also makes origins of its assets. By default GitHub's own digests check them. */
export function github(
  repo: string,
  track = 'newest',
  options: { tagPrefix?: string } = {},
): VersionSource & { asset(name: string, options?: { arch?: ArchWords } & Published): UpstreamOrigin } {
  const tagPrefix = options.tagPrefix ?? 'v';
  return {
    kind: 'github',
    repo,
    track,
    tagPrefix,
    asset: (name, words = {}) =>
      upstream(`https://github.com/${repo}/releases/download/${tagPrefix}{version}/${name}`, { checksum: 'github', ...words }),
  };
}
