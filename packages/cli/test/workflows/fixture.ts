import { createHash, randomUUID } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { refreshPackaging } from '@flatcar/workspace/packaging-check';
import type { Clone } from './checkout.ts';

/** An extension of one program, whose upstream is a folder that the test serves in place of `https://<name>.example.org/`. */
export interface Fixture {
  readonly name: string;
  /** Publishes a version upstream: its files, their checksums, and a line of the page that lists versions. */
  publish(version: string): Promise<void>;
  /** Pins a version that is published, as `flatcar-ext pin` would. */
  pin(version: string): Promise<void>;
  /** Takes all that upstream published off the network, or puts it back. */
  take(gone: boolean): Promise<void>;
}

const ARCHES = ['amd64', 'arm64'] as const;

const definition = (name: string): string => `import { binary, defineExtension, upstream } from '@flatcar/core/engine';

export default defineExtension({
  name: '${name}',
  summary: 'a program whose upstream is a server of this test',
  versions: { kind: 'page', url: 'https://${name}.example.org/index.html', track: 'newest', tagPrefix: '${name}-' },
  components: ({ version }) => [
    binary('${name}', version, upstream('https://${name}.example.org/${name}-{version}-linux-{arch}', { checksum: 'SHA256SUMS-{version}' })),
  ],
});
`;

interface Lock {
  packages: Record<string, object>;
}

/** Writes what every extension has besides its definition and its pins; gives its folder. */
async function addExtension(clone: Clone, name: string): Promise<string> {
  const dir = join(clone.dir, 'extensions', name);
  await mkdir(dir);
  await writeFile(join(dir, 'CHANGELOG.md'), `# Changes of ${name}\n`);
  await writeFile(join(dir, 'README.md'), `# ${name}\n`);
  const own = {
    name,
    version: '0.0.0',
    private: true,
    license: 'Apache-2.0',
    type: 'module',
    scripts: { build: 'flatcar-ext build' },
    dependencies: { '@flatcar/core': '*' },
  };
  await writeFile(join(dir, 'package.json'), JSON.stringify(own));
  await clone.json<Lock>('package-lock.json', (lock) => {
    lock.packages[`extensions/${name}`] = { version: '0.0.0', license: 'Apache-2.0', dependencies: { '@flatcar/core': '*' } };
    lock.packages[`node_modules/${name}`] = { resolved: `extensions/${name}`, link: true };
    return lock;
  });
  return dir;
}

const HELLO = { module: 'golang.org/x/example/hello', version: '0.0.0-20250915201037-7f05d217867b' };

/** Adds an extension of one small program that is compiled. */
export async function addCompiled(clone: Clone, name: string): Promise<void> {
  const { module, version } = HELLO;
  const dir = await addExtension(clone, name);
  const wrapper = join(dir, 'go', `${module}@v${version}`);
  const sum = `${module} v${version} h1:+gZE2jOdiscYByu0606Uw8Ldir2Cecd39Vq/3IEasRA=
${module} v${version}/go.mod h1:UhUKOXx5fMcLZxwL20DUrWWBBoRYG9Jvc8FiwZhRHCI=
`;
  await mkdir(wrapper, { recursive: true });
  await writeFile(join(wrapper, 'go.mod'), `module wrapper\n\ngo 1.26.0\n\ntool ${module}\n\nrequire ${module} v${version} // indirect\n`);
  await writeFile(join(wrapper, 'go.sum'), sum);
  await writeFile(
    join(dir, 'extension.ts'),
    `import { binary, defineExtension, go } from '@flatcar/core/engine';

export default defineExtension({
  name: '${name}',
  summary: 'a program that is compiled',
  versions: { kind: 'go', module: '${module}', track: 'newest' },
  components: ({ version }) => [binary('hello', version, go('${module}', '.', { version: '${version}' }))],
});
`,
  );
  const bytes = { [`go:${module}@v${version}`]: { sha256: createHash('sha256').update(sum).digest('hex'), proof: 'Go checksum database' } };
  const pins = { '1.0.0': { revision: 0, licenses: { hello: 'BSD-3-Clause' }, bytes } };
  await writeFile(join(dir, 'pins.json'), `${JSON.stringify(pins, undefined, 2)}\n`);
  await refreshPackaging(dir, '1.0.0');
}

/** Adds such an extension to a clone; `upstream` is the folder that the mirror of all hosts serves. */
export async function addFixture(clone: Clone, name: string, upstream: string): Promise<Fixture> {
  const dir = await addExtension(clone, name);
  const host = join(upstream, `${name}.example.org`);
  const files = new Map<string, string>();
  const write = async (): Promise<void> => {
    await mkdir(host, { recursive: true });
    for (const [file, text] of files) await writeFile(join(host, file), text);
  };
  const urlOf = (version: string, arch: string): string => `${name}-${version}-linux-${arch}`;
  await writeFile(join(dir, 'extension.ts'), definition(name));
  const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
  return {
    name,
    publish: async (version) => {
      // No two runs of the test have the same bytes, so that no store has them.
      for (const arch of ARCHES) files.set(urlOf(version, arch), `#!/bin/sh\necho ${name} ${version} ${arch} # ${randomUUID()}\n`);
      const sums = ARCHES.map((arch) => `${sha256(files.get(urlOf(version, arch)) ?? '')}  ${urlOf(version, arch)}\n`);
      files.set(`SHA256SUMS-${version}`, sums.join(''));
      files.set('index.html', `${files.get('index.html') ?? ''}<a href="${name}-${version}">${name}-${version}</a>\n`);
      await write();
    },
    pin: async (version) => {
      const bytes = ARCHES.map((arch) => [
        `https://${name}.example.org/${urlOf(version, arch)}`,
        { sha256: sha256(files.get(urlOf(version, arch)) ?? ''), proof: 'sha256 list' },
      ]);
      const pins = { [version]: { revision: 0, licenses: { [name]: 'MIT' }, bytes: Object.fromEntries(bytes) } };
      await writeFile(join(dir, 'pins.json'), `${JSON.stringify(pins, undefined, 2)}\n`);
      await refreshPackaging(dir, version);
    },
    take: async (gone) => (gone ? rm(host, { recursive: true, force: true }) : write()),
  };
}
