import { join } from 'node:path';
import {
  channelHead,
  findExtensions,
  hostArch,
  linkName,
  lintNeighbours,
  loadExtension,
  newestFirst,
  type Neighbour,
} from '@flatcar/core/engine';
import { expect } from 'vitest';
import { withHost } from '../src/merge/host.ts';
import { mergeTest } from '../src/levels.ts';
import { withUpstream } from '../src/extension/fake-upstream.ts';

const REPOSITORY = join(import.meta.dirname, '../../..');

// Images of all extensions, of files that upstreams' archives would hold at those install: no two may want the same path but from
// one shared component, and all that do not conflict merge at once.
mergeTest('no extension of this repository collides with another, and all merge together', () =>
  withUpstream(async (upstream) => {
    const made: { neighbour: Neighbour; file: string; kind: 'sysext' | 'confext' }[] = [];
    for (const dir of await findExtensions(REPOSITORY)) {
      const { extension, pins } = await loadExtension(dir);
      const { images, payloads } = await upstream.build(dir, newestFirst(Object.keys(pins))[0] ?? '', hostArch());
      const entries = payloads[0]?.tree.entries ?? [];
      made.push({
        neighbour: { name: extension.name, conflicts: extension.conflicts, entries },
        file: images[0]?.file ?? '',
        kind: extension.kind,
      });
    }
    const neighbours = made.map(({ neighbour }) => neighbour);
    expect(lintNeighbours(neighbours)).toEqual([]);
    // A declared conflict is one: where it is taken back, the check finds it. And it stands in both.
    const names = new Set(neighbours.map(({ name }) => name));
    for (const { name, conflicts } of neighbours)
      for (const other of conflicts.filter((one) => names.has(one)))
        expect(neighbours.find((one) => one.name === other)?.conflicts, `${other} must name ${name} too`).toContain(name);
    const collisions = lintNeighbours(neighbours.map((one) => ({ ...one, conflicts: [] })));
    expect(collisions.map(({ what }) => what).join('\n')).toMatch(/'containerd' and 'docker' contain different files/);

    const together: typeof made = [];
    for (const one of made.filter(({ kind }) => kind === 'sysext'))
      if (!together.some(({ neighbour }) => neighbour.conflicts.includes(one.neighbour.name))) together.push(one);
    await withHost({ release: channelHead('stable').number }, async (host) => {
      for (const { neighbour, file } of together) await host.install(file, linkName(neighbour.name, 'portable'));
      const said = await host.merge();
      for (const { neighbour } of together) expect(said).toContain(`'${neighbour.name}`);
      for (const { neighbour } of together)
        for (const { path, type } of neighbour.entries)
          if (type === 'file' && path.startsWith('usr/bin/')) expect(await host.exists(`/${path}`), path).toBe(true);
    });
  }),
);
