// Publishes what it is told into a local tree: a process of its own, for tests that kill it. Says `ready` before it begins.
// With WITH_DELTAS, makes deltas.
// With DIE_AT (keys, sums, transfer, index, timestamp) it kills itself just before that is replaced, so that images are there and nothing lists them.
import { openStore } from '@flatcar/core/engine';
import { loadKeys, localDestination, publish } from '../../src/index.ts';

const [tree = '', keysDir = '', ...paths] = process.argv.slice(2);
const keys = await loadKeys(keysDir, {});
const destination = localDestination(tree);
const dieAt = process.env['DIE_AT'];
const kindOf = (folder: string): string =>
  folder === ''
    ? 'index'
    : folder === 'metadata'
      ? 'timestamp'
      : folder === 'keys'
        ? 'keys'
        : folder.includes('/transfer/')
          ? 'transfer'
          : 'sums';
const replace = destination.replace.bind(destination);
destination.replace = async (folder, files) => {
  if (kindOf(folder) === dieAt) process.kill(process.pid, 'SIGKILL');
  await replace(folder, files);
};
process.stdout.write('ready\n');
const store = process.env['WITH_DELTAS'] ? openStore() : undefined;
await publish({
  paths,
  destination,
  keys,
  unsigned: true,
  store,
  ...(process.env['TREE_URL'] ? { baseUrl: process.env['TREE_URL'] } : {}),
});
process.stdout.write('done\n');
