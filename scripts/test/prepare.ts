// Builds what many tests need before they need it, while others run: node scripts/test/prepare.ts [root] [stand-in]
import { hostArch, openStore, openTools } from '@flatcar/core/engine';
import { standIn } from '@flatcar/testing/machine/stand-in';
import { debianRoot } from '@flatcar/testing/merge/root';

const store = openStore();
const tools = openTools(store);
if (process.argv.includes('root')) await debianRoot(store, tools);
if (process.argv.includes('stand-in')) await standIn(store, tools, 'system', hostArch());
