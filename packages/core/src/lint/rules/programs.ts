import { dirname } from 'node:path';
import { archWords } from '../../model/arch.ts';
import { runpathFolders, runsOnHost, usesHostLibc } from '../../inspect/host-requirements.ts';
import { compareVersions } from '../../model/versions.ts';
import type { RuleViolation, LintContext, Rule } from './rule.ts';

const perElf = (
  context: LintContext,
  wrong: (path: string, elf: Parameters<typeof usesHostLibc>[0]) => string | undefined,
): RuleViolation[] =>
  [...context.elfFiles].flatMap(([path, elf]) => {
    const what = wrong(path, elf);
    return what === undefined ? [] : [{ what, path }];
  });

/** Folders of the image that have a C library of their own: all that is linked to it must find everything there. */
const ownFolders = (context: LintContext): Set<string> => new Set([...context.loaders.keys()].map((path) => dirname(path)));

/** What programs ask of the system that runs them. */
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
          : `wants the loader '${elf.interpreter}', which is neither in the image nor on Flatcar`;
      }),
  },
  runpath: {
    level: 'error',
    checks: 'every folder in a RUNPATH is in the image',
    reason: 'a search path into nowhere, or into the build machine, lets others choose the library',
    fix: 'set RUNPATH to usr/lib/<extension> ($ORIGIN is fine)',
    check: (context) =>
      perElf(context, (path, elf) => {
        const wrong = runpathFolders(path, elf).find(
          (folder) => !context.entries.some((entry) => entry.type === 'dir' && entry.path === folder),
        );
        return wrong === undefined ? undefined : `searches libraries in '/${wrong}', which is not in the image`;
      }),
  },
  'portable-dynamic': {
    level: 'error',
    sees: 'target',
    checks: "no program of a portable image runs on the host's C library",
    reason: "a portable image meets hosts with any C library, so nothing in it may need the host's",
    fix: 'build it statically, ship its libraries under usr/lib/<extension>/, or bind it to releases only',
    check: (context) =>
      context.target !== 'portable'
        ? []
        : perElf(context, (path, elf) =>
            runsOnHost(path, elf, context.arch, (one) => context.entries.some((entry) => entry.path === one))
              ? `runs on the host's C library (GLIBC_${elf.glibc ?? '?'})`
              : undefined,
          ),
  },
  'foreign-library': {
    level: 'error',
    checks: 'a program with a C library of its own finds all its libraries in the image',
    reason: "a program with a C library of its own must not load the host's libraries, which are made for another",
    fix: 'ship the library under usr/lib/<extension>/ and name its folder in RUNPATH; the origin debian does both',
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
            what: `needs ${soname}, which none of the folders that it searches has (${elf.runpath.join(':') || 'no RUNPATH'})`,
            path,
          }));
      });
    },
  },
  'host-loader': {
    level: 'error',
    checks: "a dynamic loader of the image reads none of the host's library paths",
    reason: "a loader of an image that reads the host's ld.so.cache or folders finds the host's libraries for what is loaded by name",
    fix: 'edit the paths in the loader, as the origin debian does (relocate.ts)',
    check: (context) =>
      [...context.loaders]
        .filter(([, paths]) => paths.length > 0)
        .map(([path, paths]): RuleViolation => ({ what: `this loader reads the host's ${paths.join(', ')}`, path })),
  },
  'compiled-in-path': {
    level: 'error',
    checks: 'what relocated programs name by compiled-in paths and load by name, and their packages have, is in the image',
    reason: 'a program that does not find its plugins, data or helpers does half of its work, often without an error',
    fix: "add that line to the definition, or waive 'compiled-in-path:PATH' with the reason why it is not needed",
    sees: 'whole',
    check: (context) =>
      context.omissions
        .filter(({ at }) => !context.entries.some(({ path }) => path === at || path.startsWith(`${at}/`)))
        .map(({ path, wantedBy, line, package: owner }): RuleViolation => ({
          what: `names '${path.startsWith('usr/') ? `/${path}` : path}', which the package ${owner} has and the image does not: ${line} adds it`,
          path: wantedBy,
          subject: path,
        })),
  },
  'build-path': {
    level: 'error',
    checks: 'loader, RUNPATH and needed libraries name no path of the build machine',
    reason: 'a path of the machine that built it leads nowhere on a node, or to whatever somebody puts there',
    fix: 'set interpreter and RUNPATH below /usr; link by soname, not by path',
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
  glibc: {
    level: 'error',
    sees: 'target',
    checks: 'no program needs a newer C library than that of the release',
    reason: "a program that needs a newer C library than the release's fails when it starts",
    fix: 'build it statically or against an older C library, or leave the release out',
    check: (context) => {
      const { target } = context;
      if (target === undefined || target === 'portable') return [];
      const there = new Set(context.entries.map((entry) => entry.path));
      return perElf(context, (path, elf) =>
        runsOnHost(path, elf, context.arch, (one) => there.has(one)) &&
        elf.glibc !== undefined &&
        compareVersions(elf.glibc, target.glibc) > 0
          ? `needs GLIBC_${elf.glibc}; Flatcar ${target.number} has ${target.glibc}`
          : undefined,
      );
    },
  },
};
