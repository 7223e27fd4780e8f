import { arch as hostArch, availableParallelism, tmpdir, totalmem, userInfo } from 'node:os';
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

/** Which machines to boot: names of extensions, releases, architectures (`flatcar-ext test` writes it). Unless specified, what `npm test` boots. */
const machines = process.env['FLATCAR_EXT_MACHINES'] || '{"extensions":"small"}';
const { extensions, arches = [hostArch() === 'arm64' ? 'arm64' : 'x86-64'] } = JSON.parse(machines) as {
  extensions?: 'small' | readonly string[];
  arches?: readonly string[];
};
const named = Array.isArray(extensions) ? (extensions as readonly string[]) : undefined;
/** Files of shared machines: those of each architecture in one, so that machines of both run at once. */
const shared = (arch: string): string => `packages/testing/test/extensions.${arch}.machine.test.ts`;

/** Tests see a catalogue of Flatcar releases that no new release changes. */
const env = {
  FLATCAR_EXT_RELEASES: process.env['FLATCAR_EXT_RELEASES'] || join(import.meta.dirname, 'packages/testing/fixtures/releases.json'),
  // What clients remember of the trees of tests is not kept in the user's home.
  XDG_STATE_HOME: join(tmpdir(), `flatcar-ext-test-state-${userInfo().uid}`),
};
/** Except for the machines that somebody asks for: those boot today's releases. */
const machineEnv = { ...(process.env['FLATCAR_EXT_MACHINES'] ? {} : env), FLATCAR_EXT_MACHINES: machines };

/** What takes minutes, root or a store with compilers in it: after the unit tests, as many files at once as there are cores. */
const later = { pool: 'forks', maxWorkers: Math.max(2, availableParallelism()), sequence: { groupOrder: 1 } } as const;
const hour = { testTimeout: 3_600_000, hookTimeout: 3_600_000 };

// `npm test` runs all but what has the tag `full` (scripts/test/test.ts, CONTRIBUTING.md); vitest by itself runs every test of the files that it is given.
export default defineConfig({
  test: {
    ...(process.env['SUDO_UID'] === undefined ? {} : { cache: false, fsModuleCache: false }), // nothing of root's is left in somebody's checkout
    tags: [{ name: 'full', description: 'left out by npm test: takes minutes, or compiles, on a machine with an empty store' }],
    projects: [
      // No privileges, no network.
      {
        test: {
          name: 'unit',
          include: ['packages/*/test/**/*.test.ts'],
          exclude: ['**/*.{merge,machine,workflow,ubuntu}.test.ts'],
          pool: 'forks',
          maxWorkers: availableParallelism(),
          isolate: false,
          globalSetup: 'packages/testing/src/unit-store.ts',
          testTimeout: 180_000, // a machine may be busy with other work
          hookTimeout: 300_000,
          env,
        },
      },
      // Merges real images into a Debian root that the tests make themselves; needs root.
      {
        test: {
          name: 'merge',
          include: ['packages/*/test/**/*.merge.test.ts', 'extensions/*/test/*.test.ts'],
          exclude: ['**/*.{machine,workflow,ubuntu}.test.ts'],
          isolate: false,
          ...later,
          ...hour,
          env,
        },
      },
      // The command blocks of the documentation, in a copy of the repository.
      { test: { name: 'docs', include: ['docs/*.test.ts'], ...later, ...hour, env } },
      // Boots QEMU; needs root.
      {
        test: {
          name: 'machine',
          include:
            named === undefined
              ? ['packages/*/test/**/*.machine.test.ts', 'extensions/*/test/*.machine.test.ts']
              : [...arches.map(shared), ...named.map((name) => `extensions/${name}/test/*.machine.test.ts`)],
          exclude: ['x86-64', 'arm64'].filter((arch) => !arches.includes(arch)).map(shared),
          ...later,
          maxWorkers: Math.max(1, Math.min(later.maxWorkers, Math.floor(totalmem() / (4 * 1024 ** 3)))), // a machine has up to 4 GiB
          ...hour,
          env: machineEnv,
        },
      },
      // The workflows of .github/, run by a runner on this machine.
      { test: { name: 'workflows', include: ['{packages/*/test,.github}/**/*.workflow.test.ts'], ...later, ...hour, env } },
      // Ubuntu's os-release, sources and keyrings over this host (scripts/as-ubuntu).
      { test: { name: 'ubuntu', include: ['packages/*/test/**/*.ubuntu.test.ts', 'scripts/**/*.ubuntu.test.ts'], ...later, ...hour, env } },
    ],
  },
});
