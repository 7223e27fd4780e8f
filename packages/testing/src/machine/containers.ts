import { expect } from 'vitest';
import type { ContainerHost, Machine } from '../hosts.ts';
import { HELLO, runContainers, type ContainerRun } from '../merge/containers.ts';
import { quote } from './machine.ts';

/** A booted machine, with the interface of a merged host. */
export const hostOf = (machine: Machine): ContainerHost => ({
  run: async (command) => (await machine.ask(command.map(quote).join(' '))).said,
  copyIn: (from, path) => machine.copyIn(from, path),
});

/** Runs containers by the containerd of a booted machine, and checks what each prints. */
export async function expectContainers(machine: Machine, how: Omit<ContainerRun, 'arch' | 'start'>): Promise<void> {
  await machine.until('ctr version');
  const { answers, log } = await runContainers(hostOf(machine), { ...how, arch: machine.arch, start: false });
  for (const [name, said] of Object.entries(answers)) {
    if (name !== 'docker --init') expect(said, log).toContain(name === 'wasmtime' ? HELLO.wasm : HELLO.program);
    expect(said, log).toContain(`ends with ${HELLO.ends}`);
  }
  const clients = [...(how.docker === true ? ['docker'] : []), ...(how.nerdctl === true ? ['nerdctl'] : [])];
  expect(Object.keys(answers)).toEqual(expect.arrayContaining([...(how.ctr ?? []), ...clients]));
}
