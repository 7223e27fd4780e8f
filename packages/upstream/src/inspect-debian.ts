import { glob, readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { exec, packageFields, resolveClosure, unpackPackage, UserError } from '@flatcar/core';
import { archiveOf, newestPackages, type UpstreamContext } from './context.ts';

/** What packages of Debian bring, as far as a new extension is written from it. */
export interface PackagesFound {
  /** Programs of bin and sbin, by name. */
  readonly programs: readonly string[];
  /** The first package's own short description. */
  readonly summary: string;
  /** Services, with Debian's sbin written as the bin that it becomes here, by name. */
  readonly services: ReadonlyMap<string, string>;
  /** sysusers.d and tmpfiles.d, by path in the image. */
  readonly settings: ReadonlyMap<string, string>;
  /** Files below /etc: an image has none. */
  readonly config: readonly string[];
  /** Lines of maintainer scripts by which users and groups are made: they do not run here. */
  readonly users: readonly string[];
}

const asHere = (unit: string): string => unit.replaceAll(/(?<![\w/.-])\/(?:usr\/)?s?bin\//g, '/usr/bin/');

/** Looks into Debian's packages themselves, without what they depend on; the x86-64 ones stand for both architectures. */
export async function inspectDebian(packages: readonly string[], suite: string, context: UpstreamContext): Promise<PackagesFound> {
  const { store } = context;
  const archive = await archiveOf(context);
  const { snapshot, packages: all } = await newestPackages(suite, 'x86-64', context);
  const wanted = resolveClosure(all, packages).filter(({ name }) => packages.includes(name));
  const programs: string[] = [];
  const services = new Map<string, string>();
  const settings = new Map<string, string>();
  const config: string[] = [];
  const users: string[] = [];
  const summaries = new Map<string, string>();
  await store.withTemp(async (temp) => {
    for (const one of wanted) {
      const file = await archive.fetchPackage(one, { suite, snapshot, arch: 'x86-64', repin: 'run this again' });
      const dir = join(temp, one.name);
      await unpackPackage(file, dir);
      const matching = (pattern: string): Promise<string[]> => Array.fromAsync(glob(pattern, { cwd: dir }));
      const read = (path: string): Promise<string> => readFile(join(dir, path), 'utf8');
      programs.push(...(await matching('{usr/,}{bin,sbin}/*')).map((path) => basename(path)));
      for (const path of await matching('{usr/,}lib/systemd/system/*.service')) services.set(basename(path), asHere(await read(path)));
      for (const path of await matching('usr/lib/{sysusers,tmpfiles}.d/*.conf')) settings.set(path, await read(path));
      const etc = await readdir(join(dir, 'etc'), { recursive: true, withFileTypes: true }).catch(() => []);
      config.push(...etc.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name).slice(dir.length)));
      const { Description: description = '' } = await packageFields(file, ['Description', 'Version']);
      summaries.set(one.name, description.split('\n')[0] ?? '');
      await exec('dpkg-deb', ['--control', file, join(dir, 'DEBIAN')], { install: 'install dpkg' });
      const script = await read('DEBIAN/postinst').catch(() => '');
      users.push(...script.replaceAll(/\\\n\s*/g, '').split('\n').map((line) => line.trim()).filter((line) => /^(?:add(?:user|group)|useradd|groupadd)\b/.test(line))); // prettier-ignore
    }
  });
  return {
    programs: [...new Set(programs)].toSorted(),
    summary: summaries.get(packages[0] ?? '') ?? '',
    services,
    settings,
    config: config.filter((path) => !path.startsWith('/etc/init.d/')).toSorted(),
    users,
  };
}

/** A service that packages bring, by its name. */
export function serviceOf({ services }: PackagesFound, name: string): string {
  const text = services.get(name);
  if (text === undefined)
    throw new UserError(`the packages have no ${name}`, {
      next: `they have ${[...services.keys()].join(', ') || 'none'}; write one by --unit 'program --flags'`,
    });
  return text;
}
