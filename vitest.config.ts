import { defineConfig } from 'vitest/config';

const MACHINES = 'packages/testing/test/extensions.machine.test.ts';
const wanted = JSON.parse(process.env['FLATCAR_EXT_MACHINES'] ?? '{"extensions":["kubernetes"]}') as { extensions?: string[] };

// Three levels: unit needs no privileges, merge needs root and a Debian root it makes itself, machine boots QEMU.
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['packages/*/test/**/*.test.ts'],
          exclude: ['**/*.merge.test.ts', '**/*.machine.test.ts'],
          pool: 'forks',
          isolate: false,
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'merge',
          include: ['packages/*/test/**/*.merge.test.ts', 'extensions/*/*.test.ts'],
          exclude: ['**/*.machine.test.ts'],
          pool: 'forks',
          testTimeout: 1_800_000,
          hookTimeout: 1_800_000,
          fileParallelism: false,
        },
      },
      // The command blocks of the documentation, in a copy of the repository.
      {
        test: { name: 'docs', include: ['docs/*.test.ts'], pool: 'forks', testTimeout: 1_800_000, hookTimeout: 300_000 },
      },
      // One boot, kubernetes on stable: that every change sees a booted machine. `flatcar-ext test` says what else is to be booted.
      {
        test: {
          name: 'machine',
          include:
            wanted.extensions === undefined ? ['packages/*/test/**/*.machine.test.ts', 'extensions/*/*.machine.test.ts'] : [MACHINES],
          pool: 'forks',
          testTimeout: 3_600_000,
          hookTimeout: 3_600_000,
          env: { FLATCAR_EXT_MACHINES: JSON.stringify(wanted) },
        },
      },
    ],
  },
});
