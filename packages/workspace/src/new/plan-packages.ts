import { basename } from 'node:path';
import { ARCHES, archWords, HOST_PROGRAMS, UserError, type CompletedOrigin } from '@flatcar/core/engine';
import type { UpstreamContext } from '@flatcar/upstream';
import { programsOfUnit, serviceOf } from './daemon.ts';
import { inspectPackages, proposeOrigin, type PackagesFound, type ProposalRequest } from './inspect-packages.ts';
import { oneLine } from './inspect-source.ts';
import { capabilitiesOf } from './maintainer-scripts.ts';
import { packagesVersionOf } from './new-version.ts';
import { planService } from './plan-service.ts';
import type { Plan } from './plan.ts';
import { invalidLicense, promptSummary, type Prompter } from './prompter.ts';
import type { PackagesRequest } from './request.ts';

/** Most paths in a note. */
const SHOWN = 3;

/** Throws a UserError for programs that no package has, and for scripts whose interpreter is neither in the image nor on Flatcar. */
function assertPrograms(found: PackagesFound, programs: readonly string[]): void {
  const { interpreters, programs: own, owners, elsewhere } = found;
  const absent = programs.filter((program) => !owners.has(program) && !elsewhere.has(program));
  if (absent.length > 0)
    throw new UserError(`neither the packages nor their dependencies have a program ${absent.join(', ')}`, {
      next: `name its package as well, by --debian; the packages have ${[...new Set([...own, ...elsewhere.keys()])].join(', ') || 'none'}`,
    });
  for (const program of programs) {
    const interpreter = interpreters.get(program);
    if (interpreter === undefined || elsewhere.has(program)) continue; // of a script around a program, the program is taken
    const name = basename(interpreter);
    if (programs.includes(name) || HOST_PROGRAMS.has(interpreter.includes('/') ? interpreter : `/usr/bin/${interpreter}`)) continue;
    throw new UserError(`'${program}' is a script for ${interpreter}, which is neither in the image nor on Flatcar`, {
      next: `choose other programs by --program; a script for ${name} needs an extension of ${name} with its library`,
    });
  }
}

/** Throws a UserError if the first package, whose version the extension has, contains nothing and depends on the package with the program. */
function assertLead({ empty, owners, elsewhere, versions }: PackagesFound, lead: string, programs: readonly string[]): void {
  if (!empty.includes(lead)) return;
  const [program = ''] = programs;
  const owner = elsewhere.get(program)?.package ?? owners.get(program) ?? '';
  throw new UserError(`the package ${lead} only has dependencies: ${program} ${versions.get(program) ?? ''} is in ${owner}`, {
    next: `name that package first: --debian ${owner}`,
  });
}

/** The programs to ship: those of the request or the chosen ones, and those that the unit runs. */
async function choosePrograms(request: PackagesRequest, found: PackagesFound, prompter: Prompter): Promise<string[]> {
  const { name, packages, unit, programs } = request;
  const ofUnit = unit?.exec.endsWith('.service') === true ? programsOfUnit(found, serviceOf(found, unit.exec)) : [];
  const named = found.programs.filter((one) => [name, ...packages].includes(one.replaceAll('_', '-')));
  const proposed = found.programs.length === 0 ? [name] : [...new Set([...(named.length > 0 ? named : found.programs), ...ofUnit])];
  if (programs !== undefined) return [...new Set([...programs, ...ofUnit])];
  if (found.programs.length < 2) return [...new Set([...proposed, ...ofUnit])];
  const answer = await prompter.text(`Which programs, of ${found.programs.join(', ')}?`, '--program', proposed.join(' '));
  return [...new Set([...answer.split(/[\s,]+/).filter(Boolean), ...ofUnit])];
}

/** The licence: empty if the copyright files have it, because `pin` reads it from there. */
async function licenseOfPackages({ name, license }: PackagesRequest, found: PackagesFound, prompter: Prompter): Promise<string> {
  if (license !== undefined || found.licenses.length > 0) return license ?? '';
  const hint =
    found.unclear.length === 0 ? 'its copyright file is not machine-readable' : `its copyright file names ${found.unclear.join(', ')}`;
  return prompter.text(`The licence of ${name}, as SPDX (${hint})?`, '--license', undefined, invalidLicense);
}

/** Reports what the packages contain that is not in the image by itself. */
function noteRest({ unit, programs }: Pick<Plan, 'unit' | 'programs'>, found: PackagesFound, prompter: Prompter): void {
  const others = found.programs.filter((one) => !programs.includes(one));
  if (others.length > 0) prompter.note(`left out, unless --program names them: ${others.join(', ')}`);
  if (unit === undefined && found.services.size > 0)
    prompter.note(`the packages have ${[...found.services.keys()].join(', ')}: pass one as --unit to start it with the image`);
  for (const { program, capabilities } of capabilitiesOf(found))
    if (programs.includes(program))
      prompter.note(
        `Debian gives ${program} the file capabilities ${capabilities}, which an image cannot have: run it as root, or in a service with AmbientCapabilities=`,
      );
}

/** One note for all files that were left out for the same reason. */
function leftOutNotes(left: CompletedOrigin['left']): string[] {
  return [...Map.groupBy(left, ({ why, line }) => `${why}${line === undefined ? '' : `; ${line} in extension.ts adds it`}`)].map(
    ([why, files]) => {
      const shown = files.slice(0, SHOWN).map(({ path }) => path);
      const more = files.length > SHOWN ? ` and ${files.length - SHOWN} more` : '';
      return `left out: ${shown.join(', ')}${more}: ${why}`;
    },
  );
}

/** A path in packages as a glob for both architectures and for the next versions: an image of the other one has the same omission. */
const waivedGlob = (path: string): string =>
  path.replace(/^(usr\/lib\/)[^/]+-linux-gnu(?=\/)/, '$1*').replaceAll(/(?<=\/)\d+(?:\.\d+)+(?=\/|$)/g, '*');

/** Longest name of a component of packages: its folder of libraries takes the place of Debian's, whose path is compiled into programs. */
const LONGEST = Math.min(...ARCHES.map((arch) => archWords(arch).triplet.length));

/** The name of the component: the extension's, or as many of its words as fit. */
function componentName(name: string): string {
  if (name.length <= LONGEST) return name;
  const words = name.slice(0, LONGEST + 1).split('-');
  return words.length === 1 ? name.slice(0, LONGEST) : words.slice(0, -1).join('-');
}

type OriginPlan = Pick<NonNullable<Plan['debian']>, 'programs' | 'data' | 'plugins' | 'waive'>;

/** The origin with everything that its programs read at run time; reports what was added and what was left out. */
async function planOrigin(request: ProposalRequest, prompter: Prompter, context: UpstreamContext): Promise<OriginPlan> {
  const { origin, added, left } = await proposeOrigin(request, context);
  for (const { line, files, size, wantedBy } of added)
    prompter.note(`added: ${line} (${files} files, ${(size / (1 << 20)).toFixed(1)} MiB), which ${wantedBy} reads`);
  for (const note of leftOutNotes(left)) prompter.note(note);
  const waive = left
    .filter(({ isReported }) => isReported)
    .map(({ path, why }) => [`compiled-in-path:${waivedGlob(path)}`, `left out: ${why}`]);
  return {
    programs: origin.programs,
    data: origin.relocate?.data ?? [],
    plugins: origin.relocate?.plugins ?? [],
    waive: Object.fromEntries(waive) as Record<string, string>,
  };
}

/** A plan of an extension of Debian's packages. */
export async function planPackages(request: PackagesRequest, prompter: Prompter, context: UpstreamContext): Promise<Plan> {
  const { name, packages, suite, track } = request;
  const { version, isDated } = await packagesVersionOf(request, prompter, context);
  const found = await inspectPackages(packages, suite, context);
  const programs = await choosePrograms(request, found, prompter);
  assertPrograms(found, programs);
  assertLead(found, packages[0] ?? '', programs);
  const summary = await promptSummary(request, prompter, oneLine(`${name}, ${found.summary}`));
  const license = await licenseOfPackages(request, found, prompter);
  const { data, ...service } = planService(request, summary, found, prompter);
  noteRest({ programs, ...service }, found, prompter);
  const componentVersion = found.versions.get(programs[0] ?? '') ?? version;
  const component = componentName(name);
  const origin = await planOrigin({ packages, suite, programs, data, name: component, version: componentVersion }, prompter, context);
  const versions = programs.flatMap((program) => {
    const own = found.versions.get(program);
    return own === undefined || own === version ? [] : [[program, own] as const];
  });
  return {
    name,
    version,
    track,
    programs,
    summary,
    license,
    debian: { component, packages, suite, dated: isDated, ...origin, versions: Object.fromEntries(versions) },
    ...service,
  };
}
