// Boots machines with the extensions that FLATCAR_EXT_MACHINES names, which vitest.config.ts sets where nobody else did.
import { hostArch, parseArch, selectTargets } from '@flatcar/core/engine';
import { describeMachines } from '../src/index.ts';

/** As `flatcar-ext test` writes it. */
interface Wanted {
  readonly extensions?: readonly string[] | 'small';
  readonly releases?: readonly string[];
  readonly arches?: readonly string[];
}
const { extensions, releases = ['stable'], arches = [hostArch()] } = JSON.parse(process.env['FLATCAR_EXT_MACHINES'] ?? '{}') as Wanted;

await describeMachines({
  ...(extensions === undefined ? {} : { extensions }),
  releases: releases.flatMap((one) => selectTargets(one)).filter((one) => one !== 'portable'),
  arches: arches.map(parseArch),
});
