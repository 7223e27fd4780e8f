import { afterAll, machineTest } from '../levels.ts';
import { explained, withMachine, type Machine, type MachineOptions } from './machine.ts';

/** Tests that share a machine, which boots when the first of them needs it. */
export function sharedMachine(prepare: () => Promise<MachineOptions>): (name: string, run: (machine: Machine) => Promise<void>) => void {
  const up = Promise.withResolvers<Machine>();
  const over = Promise.withResolvers<void>();
  up.promise.catch(() => undefined); // told by each test
  let running: Promise<void> | undefined;
  afterAll(async () => {
    over.resolve();
    await running;
  });
  return (name, run) =>
    machineTest(name, async () => {
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
    });
}
