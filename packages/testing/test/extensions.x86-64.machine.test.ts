// Boots x86-64 machines with the extensions that FLATCAR_EXT_MACHINES names.
import { describeWantedMachines } from './helpers/wanted-machines.ts';

await describeWantedMachines('x86-64');
