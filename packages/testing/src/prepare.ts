// Makes what many tests need before they ask for it, while others run: node packages/testing/src/prepare.ts
import { hostArch, openStore, openTools } from '@flatcar/core';
import { standIn } from './machine/stand-in.ts';
import { debianRoot } from './root.ts';

const store = openStore();
const tools = openTools(store);
await debianRoot(store, tools);
await standIn(store, tools, 'final', hostArch());
