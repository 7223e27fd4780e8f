// npm run bench: speed and size as ratios, measured in one run.
import { parseArgs } from 'node:util';
import { openStore, openTools } from '@flatcar/core/engine';
import { hypervisorQemu } from './hypervisor-qemu.ts';
import { kubernetes } from './kubernetes.ts';
import { printResults, say } from './measure.ts';

const HELP = `measure speed and size as ratios of one run

npm run bench -- [OPTIONS]

  --only PART   measure this part only: kubernetes or hypervisor-qemu
                kubernetes       packing and binding of its payload, and a build with nothing to do
                hypervisor-qemu  built from its packages, compared with what mkosi makes of the same (if mkosi is installed)
  --full        also build kubernetes from nothing (minutes)
  --json        print JSON
  -h, --help    print this help

Examples:
  npm run bench
  npm run bench -- --only kubernetes --json`;

const PARTS = ['kubernetes', 'hypervisor-qemu'];

function readArguments() {
  try {
    const { values } = parseArgs({
      options: {
        json: { type: 'boolean', default: false },
        full: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
        only: { type: 'string' },
      },
    });
    if (values.only !== undefined && !PARTS.includes(values.only)) throw new Error(`--only ${values.only}: not one of ${PARTS.join(', ')}`);
    return values;
  } catch (error) {
    console.error(`error: ${(error as Error).message}\nnext: see npm run bench -- --help`);
    process.exit(2);
  }
}

const { json, full, help, only } = readArguments();
if (help) console.log(HELP);
else {
  const store = openStore();
  const tools = openTools(store, (event) => event.type === 'step' && say(event.text));
  printResults(
    {
      ...(only === 'hypervisor-qemu' ? {} : await kubernetes(store, tools, { full })),
      ...(only === 'kubernetes' ? {} : await hypervisorQemu(store, tools)),
    },
    json,
  );
}
