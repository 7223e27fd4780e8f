import { afterAll, machineTest, type Selected, type Skip } from '../levels.ts';
import { explained, withMachine, type Machine, type MachineOptions } from './machine.ts';

/** A test of a shared machine; `before` may skip it, and runs while the machine need not be there. */
export type SharedTest = (
  name: string,
  run: (machine: Machine) => Promise<void>,
  before?: (skip: Skip) => Promise<void>,
  selected?: Selected,
) => void;

/** Tests that share a machine, which boots when the first of them needs it; `always` comes before each and may skip it. */
export function sharedMachine(prepare: () => Promise<MachineOptions>, always?: (skip: Skip) => Promise<void>): SharedTest {
  const up = Promise.withResolvers<Machine>();
  const over = Promise.withResolvers<void>();
  up.promise.catch(() => undefined); // told by each test
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
        await explained(machine, () => run(machine));
      },
      selected,
    );
}
