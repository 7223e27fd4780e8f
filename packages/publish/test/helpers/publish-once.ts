// Publishes what it is told into a local tree: a process of its own, for tests that kill it. Says `ready` before it begins.
import { loadKeys, localDestination, publish } from '../../src/index.ts';

const [tree = '', keysDir = '', ...paths] = process.argv.slice(2);
const keys = await loadKeys(keysDir, {});
process.stdout.write('ready\n');
await publish({ paths, destination: localDestination(tree), keys, unsigned: true });
process.stdout.write('done\n');
