// Makes what many tests need before they ask for it, while others run: node packages/testing/src/prepare.ts
import { hostArch, openStore, openTools } from '@flatcar/core';
import { standIn } from './machine/stand-in.ts';
import { debianRoot } from './root.ts';

const store = openStore();
await debianRoot(store);
await standIn(store, openTools(store), 'final', hostArch());
