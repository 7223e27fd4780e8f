import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { buildGoTool, openStore, openTools } from '@flatcar/core/engine';

/** The real Butane compiler: from the Go module proxy, compiled once and kept in the store. */
export async function buildButane(): Promise<string> {
  const store = openStore();
  const wrapper = resolve(import.meta.dirname, '../butane');
  const version = /coreos\/butane (v\S+)/.exec(await readFile(join(wrapper, 'go.mod'), 'utf8'))?.[1];
  return buildGoTool(wrapper, { store, tools: openTools(store), ldflags: `-X github.com/coreos/butane/internal/version.Raw=${version}` });
}
