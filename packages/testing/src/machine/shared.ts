import { afterAll, machineTest, type Selected, type Skip } from '../levels.ts';
import type { Machine } from '../hosts.ts';
import { withFailureLogs } from './logs.ts';
import { withMachine, type MachineOptions } from './machine.ts';

/** A test of a shared machine; `before` runs before the machine is needed, and may skip the test. */
export type SharedTest = (
  name: string,
  run: (machine: Machine) => Promise<void>,
  before?: (skip: Skip) => Promise<void>,
  selected?: Selected,
) => void;

/** Tests that share a machine, which boots when the first of them needs it; `always` runs before each and may skip it. */
export function sharedMachine(prepare: () => Promise<MachineOptions>, always?: (skip: Skip) => Promise<void>): SharedTest {
  const up = Promise.withResolvers<Machine>();
  const over = Promise.withResolvers<void>();
  up.promise.catch(() => undefined); // each test reports it
  let running: Promise<void> | undefined;
  afterAll(async () => {
    over.resolve();
    await running;
  });
  return (name, run, before, selected) =>
    machineTest(
      name,
      async (skip) => {
        await always?.(skip);
        await before?.(skip);
        running ??= prepare()
          .then((options) =>
            withMachine(options, async (machine) => {
              up.resolve(machine);
              await over.promise;
            }),
          )
          .catch((error: unknown) => up.reject(error));
        const machine = await up.promise;
        await withFailureLogs(machine, () => run(machine));
      },
      selected,
    );
}
