import { hostArch, parseArch, selectTargets, type Arch } from '@flatcar/core/engine';
import { describeMachines } from '../../src/index.ts';

/** FLATCAR_EXT_MACHINES, as `flatcar-ext test` writes it; vitest.config.ts sets it where nobody else did. */
interface Wanted {
  readonly extensions?: readonly string[] | 'small';
  readonly releases?: readonly string[];
  readonly arches?: readonly string[];
}

/** Registers the machines of one architecture that FLATCAR_EXT_MACHINES names. Each architecture has a file, so that two machines run at once. */
export async function describeWantedMachines(arch: Arch): Promise<void> {
  const { extensions, releases = ['stable'], arches = [hostArch()] } = JSON.parse(process.env['FLATCAR_EXT_MACHINES'] ?? '{}') as Wanted;
  await describeMachines({
    extensions,
    releases: releases.flatMap((one) => selectTargets(one)).filter((one) => one !== 'portable'),
    arches: arches.map(parseArch).filter((one) => one === arch),
  });
}
