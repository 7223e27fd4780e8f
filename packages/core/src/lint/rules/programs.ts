import { dirname } from 'node:path';
import { archWords } from '../../model/arch.ts';
import type { Elf } from '../../inspect/elf.ts';
import { runpathFolders, runsOnHost, usesHostLibc } from '../../inspect/host-requirements.ts';
import { compareVersions } from '../../model/versions.ts';
import { between } from './elsewhere.ts';
import type { RuleViolation, LintContext, Rule } from './rule.ts';

const perElf = (context: LintContext, wrong: (path: string, elf: Elf) => string | undefined): RuleViolation[] =>
  [...context.elfFiles].flatMap(([path, elf]) => {
    const what = wrong(path, elf);
    return what === undefined ? [] : [{ what, path }];
  });

/** Tells whether a program or library of the image runs on the host's C library. */
function runsOn(context: LintContext): (path: string, elf: Elf) => boolean {
  const paths = new Set(context.entries.map((entry) => entry.path));
  return (path, elf) => runsOnHost(path, elf, context.arch, (one) => paths.has(one));
}

/** Folders of the image with a C library: programs linked to it must find all libraries there. */
const ownFolders = (context: LintContext): Set<string> => new Set([...context.loaders.keys()].map((path) => dirname(path)));

/** Programs and libraries, and the system that runs them. */
export const programs: Readonly<Record<string, Rule>> = {
  'elf-arch': {
    level: 'error',
    checks: "every program and library is for the image's architecture",
    reason: 'a program for another architecture does not start',
    fix: "correct the arch words in the component's URL",
    check: (context) =>
      perElf(context, (_, { machine }) =>
        machine === archWords(context.arch).elf ? undefined : `is for ELF machine ${machine}, not for ${context.arch}`,
      ),
  },
  interpreter: {
    level: 'error',
    checks: 'the dynamic loader of every program is in the image or on Flatcar',
    reason: 'a program whose dynamic loader is missing fails with "No such file or directory"',
    fix: 'ship the loader and set the interpreter, or build the program statically',
    check: (context) =>
      perElf(context, (_, elf) => {
        if (elf.interpreter === undefined || usesHostLibc(elf, context.arch)) return undefined;
        return context.entries.some(({ path }) => `/${path}` === elf.interpreter)
          ? undefined
          : `needs the loader '${elf.interpreter}', which is not in the image or on Flatcar`;
      }),
  },
  runpath: {
    level: 'error',
    checks: 'every folder in a RUNPATH is in the image',
    reason: 'a search path outside the image, or of the build machine, lets others choose the library',
    fix: 'set RUNPATH to /usr/lib/<extension> ($ORIGIN works too)',
    check: (context) =>
      perElf(context, (path, elf) => {
        const wrong = runpathFolders(path, elf).find(
          (folder) => !context.entries.some((entry) => entry.type === 'dir' && entry.path === folder),
        );
        return wrong === undefined ? undefined : `searches libraries in '/${wrong}', which is not in the image`;
      }),
  },
  'portable-needs-host': {
    ...between['portable-needs-host'],
    sees: 'target',
    check: (context) => {
      if (context.target !== 'portable') return [];
      const runs = runsOn(context);
      return perElf(context, (path, elf) => (runs(path, elf) ? `runs on the host's C library (GLIBC_${elf.glibc ?? '?'})` : undefined));
    },
  },
  'foreign-library': {
    level: 'error',
    checks: 'a program that brings its C library finds all its libraries in the image',
    reason: "a program that brings its C library must not load the host's libraries, which are built for another C library",
    fix: 'ship the library under usr/lib/<extension>/ and add its folder to RUNPATH; the origin debian does both',
    check: (context) => {
      const own = ownFolders(context);
      const there = new Set(context.entries.map((entry) => entry.path));
      return [...context.elfFiles].flatMap(([path, elf]) => {
        const folders = runpathFolders(path, elf);
        const isRelocated =
          own.has(dirname(elf.interpreter?.slice(1) ?? '')) || own.has(dirname(path)) || folders.some((folder) => own.has(folder));
        if (!isRelocated) return [];
        return elf.needed
          .filter((soname) => !folders.some((folder) => there.has(`${folder}/${soname}`)))
          .map((soname): RuleViolation => ({
            what: `needs ${soname}, which is in none of the folders that it searches (${elf.runpath.join(':') || 'no RUNPATH'})`,
            path,
          }));
      });
    },
  },
  'host-loader': {
    level: 'error',
    checks: "a dynamic loader of the image reads none of the host's library paths",
    reason: "a loader that reads the host's ld.so.cache or folders finds the host's libraries when a program loads one by name",
    fix: 'edit the paths in the loader, as the origin debian does (relocate.ts)',
    check: (context) =>
      [...context.loaders]
        .filter(([, paths]) => paths.length > 0)
        .map(([path, paths]): RuleViolation => ({ what: `this loader reads the host's ${paths.join(', ')}`, path })),
  },
  'compiled-in-path': {
    level: 'error',
    checks: 'the image contains the files of Debian packages that relocated programs name by compiled-in paths or load by name',
    reason: 'a program without its plugins, data or helpers works only in part, often without an error',
    fix: "add the line to the definition, or waive 'compiled-in-path:PATH' with the reason why the program does not need it",
    sees: 'whole',
    check: (context) =>
      context.omissions
        .filter(({ at }) => !context.entries.some(({ path }) => path === at || path.startsWith(`${at}/`)))
        .map(({ path, wantedBy, line, package: owner }): RuleViolation => ({
          what: `names '${path.startsWith('usr/') ? `/${path}` : path}', which is in the package ${owner} and not in the image: ${line} adds it`,
          path: wantedBy,
          subject: path,
        })),
  },
  'build-path': {
    level: 'error',
    checks: 'the loader, RUNPATH and needed libraries of programs name no path of the build machine',
    reason: 'on a node, a path of the build machine is missing, or contains what somebody put there',
    fix: 'set the interpreter and RUNPATH below /usr; link by soname, not by path',
    check: (context) =>
      perElf(context, (_, { interpreter = '/usr', runpath, needed }) => {
        const wrong = [
          ...[interpreter].filter((one) => !/^\/(?:usr|lib|lib64)(?:\/|$)/.test(one)),
          ...runpath.filter((one) => !/^(?:\/usr(?:\/|$)|\$\{?ORIGIN\}?)/.test(one)),
          ...needed.filter((one) => one.includes('/')),
        ];
        return wrong.length === 0 ? undefined : `names ${wrong.map((one) => `'${one}'`).join(', ')}`;
      }),
  },
  'needs-glibc': {
    ...between['needs-glibc'],
    sees: 'target',
    check: (context) => {
      const { target } = context;
      if (target === undefined || target === 'portable') return [];
      const runs = runsOn(context);
      return perElf(context, (path, elf) =>
        elf.glibc !== undefined && compareVersions(elf.glibc, target.glibc) > 0 && runs(path, elf)
          ? `needs GLIBC_${elf.glibc}; Flatcar ${target.number} has ${target.glibc}`
          : undefined,
      );
    },
  },
};
