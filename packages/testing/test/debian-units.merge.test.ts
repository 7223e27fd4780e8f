// Units of extensions out of Debian's packages have every setting that Debian's own unit of the program has, or a reason why not.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import {
  componentsOf,
  findExtensions,
  hostArch,
  loadExtension,
  newestFirst,
  openArchive,
  openStore,
  parseUnit,
  unpackPackage,
} from '@flatcar/core/engine';
import { describe, expect, mergeTest } from '../src/index.ts';

const UNITS = 'usr/lib/systemd/system';

/** Settings of Debian's units that ours do without, each with the reason. */
const WITHOUT: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'nebula.service': { SyslogIdentifier: 'for the instances of a template', User: 'root is the default' },
  'caddy.service': { LimitNPROC: 'a limit per user, which upstream dropped' },
  'sssd.service': {
    ExecStartPre: 'mends what older packages of Debian left behind',
    SecureBits: 'helpers start as root',
    User: 'root is the default',
    Group: 'root is the default',
  },
};

/** The [Service] settings of a unit, by their keys. */
async function serviceKeys(file: string): Promise<Set<string>> {
  const settings = parseUnit(await readFile(file, 'utf8')).filter(({ section }) => section === 'Service');
  return new Set(settings.map(({ key }) => key));
}

/** Names of the services in a folder, without the `@` of templates. */
const servicesIn = async (dir: string): Promise<Map<string, string>> => {
  const names = await readdir(join(dir, UNITS)).catch(() => []);
  return new Map(names.filter((name) => name.endsWith('.service')).map((name) => [name.replace('@', ''), join(dir, UNITS, name)]));
};

const archive = openArchive(openStore());
const indexes = new Map<string, ReturnType<typeof archive.newest>>();
/** Debian's packages of a suite, read once. */
function newestOf(suite: string): ReturnType<typeof archive.newest> {
  const index = indexes.get(suite) ?? archive.newest(suite, hostArch());
  indexes.set(suite, index);
  return index;
}

describe("settings of Debian's units", async () => {
  const found = new Map<string, { ours: string; packages: readonly string[]; suite: string }>();
  for (const dir of await findExtensions(resolve(import.meta.dirname, '../../..'))) {
    const ours = await servicesIn(join(dir, 'files'));
    if (ours.size === 0) continue;
    const loaded = await loadExtension(dir);
    const [version = ''] = newestFirst(Object.keys(loaded.pins));
    const { components } = await componentsOf(loaded, version);
    for (const { component } of components)
      for (const origin of component.origins)
        if (origin.kind === 'debian')
          for (const [unit, path] of ours) found.set(unit, { ours: path, packages: origin.packages, suite: origin.suite });
  }

  for (const [unit, { ours, packages, suite }] of found)
    mergeTest(unit, async () => {
      const dir = await mkdtemp(join(tmpdir(), 'units-'));
      try {
        const index = await newestOf(suite);
        for (const one of index.packages.filter(({ name }) => packages.includes(name)))
          await unpackPackage(
            await archive.fetchPackage(one, { suite, snapshot: index.snapshot, arch: hostArch(), repin: 'run this again' }),
            dir,
          );
        const theirs = (await servicesIn(dir)).get(unit);
        if (theirs === undefined) {
          // A unit of ours alone, such as the one that creates the user.
          expect(WITHOUT, `Debian has no ${unit}`).not.toHaveProperty([unit]);
          return;
        }
        const [have, wanted] = [await serviceKeys(ours), await serviceKeys(theirs)];
        const missing = [...wanted].filter((key) => !have.has(key)).toSorted();
        expect(missing, `settings of Debian's ${basename(theirs)} that ours lacks without a reason`).toEqual(
          Object.keys(WITHOUT[unit] ?? {}).toSorted(),
        );
      } finally {
        await rm(dir, { recursive: true, force: true });
      }
    });
});
