import { archWords } from '../arch.ts';
import { runpathFolders, usesHostLibc } from '../needs.ts';
import { compareVersions } from '../versions.ts';
import type { Hit, LintContext, Rule } from './rule.ts';

const perElf = (context: LintContext, wrong: (path: string, elf: Parameters<typeof usesHostLibc>[0]) => string | undefined): Hit[] =>
  [...context.elves].flatMap(([path, elf]) => {
    const what = wrong(path, elf);
    return what === undefined ? [] : [{ what, path }];
  });

/** What programs ask of the system that runs them. */
export const programs: Readonly<Record<string, Rule>> = {
  'elf-arch': {
    level: 'error',
    reason: 'a program for another architecture does not start',
    fix: "correct the arch words in the component's URL",
    check: (context) =>
      perElf(context, (_, { machine }) =>
        machine === archWords(context.arch).elf ? undefined : `is for ELF machine ${machine}, not for ${context.arch}`,
      ),
  },
  interpreter: {
    level: 'error',
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
    reason: "a portable image meets hosts with any C library, so nothing in it may need the host's",
    fix: 'build it statically, ship its libraries under usr/lib/<extension>/, or bind it to releases only',
    check: (context) =>
      context.target !== 'portable'
        ? []
        : perElf(context, (_, elf) =>
            usesHostLibc(elf, context.arch) ? `runs on the host's C library (GLIBC_${elf.glibc ?? '?'})` : undefined,
          ),
  },
  glibc: {
    level: 'error',
    reason: "a program that needs a newer C library than the release's fails when it starts",
    fix: 'build it statically or against an older C library, or leave the release out',
    check: (context) => {
      const { target } = context;
      if (target === undefined || target === 'portable') return [];
      return perElf(context, (_, elf) =>
        usesHostLibc(elf, context.arch) && elf.glibc !== undefined && compareVersions(elf.glibc, target.glibc) > 0
          ? `needs GLIBC_${elf.glibc}; Flatcar ${target.number} has ${target.glibc}`
          : undefined,
      );
    },
  },
};
