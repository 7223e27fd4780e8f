import type { Component } from '@flatcar/core';

/** A component that consists of files of this repository: those of `files/` in its folder. */
export function ownFiles(name: string, lock: string): Component {
  return { name, version: '1', origins: [{ kind: 'files', dir: 'files' }], install: [{ from: '**', to: '' }], lock };
}
