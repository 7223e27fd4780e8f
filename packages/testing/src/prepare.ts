// Makes what many tests need before they ask for it, while others run: node packages/testing/src/prepare.ts [root] [stand-in]
import { hostArch, openStore, openTools } from '@flatcar/core/engine';
import { standIn } from './machine/stand-in.ts';
import { debianRoot } from './merge/root.ts';

const store = openStore();
const tools = openTools(store);
if (process.argv.includes('root')) await debianRoot(store, tools);
if (process.argv.includes('stand-in')) await standIn(store, tools, 'system', hostArch());
