import { join } from 'node:path';
import { ARCHES, hostArch, type Arch } from '@flatcar/core/engine';
import { expect } from 'vitest';
import { buildImages } from '../src/extension/images.ts';
import { mergeTest } from '../src/levels.ts';
import type { UseRoot, UseRootName } from '../src/hosts.ts';
import { withUseRoot } from '../src/merge/use-root.ts';

const ripgrep = join(import.meta.dirname, '../../../extensions/ripgrep');
const yq = join(import.meta.dirname, '../../../extensions/yq');
const other = ARCHES.find((arch) => arch !== hostArch()) as Arch;

async function withRipgrep(name: UseRootName, use: (root: UseRoot) => Promise<void>): Promise<void> {
  const [image] = await buildImages(ripgrep, name === 'emulated' ? other : hostArch(), ['portable']);
  if (image === undefined) throw new Error('the build made no image');
  await withUseRoot({ name, image }, use);
}

mergeTest('a bare root has nothing to run programs on but busybox, bash and what the image brings', () =>
  withRipgrep('bare', async (root) => {
    const libraries = 'find /usr /lib/ -name "*.so*" | sed "s,/[^/]*$,,"';
    const { said } = await root.run(`{ ${libraries}; find /usr/bin -type f; find /usr -name terminfo -o -name locale; } | sort -u`);
    expect(said.split('\n')).toEqual(expect.arrayContaining(['/usr/bin/bash', '/usr/bin/busybox', '/usr/bin/rg', '/usr/lib/ripgrep']));
    expect(said).not.toMatch(/^\/usr\/lib(?:64)?$|\/coreutils$|terminfo|locale/m);
  }),
);

for (const name of ['bare', 'debian'] as const)
  mergeTest(`${name}: a script that fails is seen, has no locale, and nothing that it starts outlives it`, () =>
    withRipgrep(name, async (root) => {
      expect(await root.run('echo before; false; echo after')).toEqual({ said: 'before', exitCode: 1 });
      expect((await root.run('env')).said).not.toMatch(/^(?:LANG|LC_)/m);
      await root.run('sh -c "while :; do echo >>/tmp/alive; sleep 0.1; done" >/dev/null 2>&1 & sleep 1');
      const count = 'wc -l </tmp/alive';
      const { said: before } = await root.run(count);
      expect(Number(before)).toBeGreaterThan(0);
      expect((await root.run(`sleep 1; ${count}`)).said).toBe(before);
      expect((await root.run(`cmp ${root.tls.ca} /etc/ssl/certs/ca-certificates.crt; ls ${root.tls.trusted.key}`)).exitCode).toBe(0);
    }),
  );

mergeTest('what is started goes on beside scripts, and ends when it is stopped', () =>
  withRipgrep('bare', async (root) => {
    const server = root.start('echo ready; while :; do echo $PORT >/tmp/port; sleep 0.1; done', { PORT: '7' });
    const port = (await root.run('until [ -e /tmp/port ]; do sleep 0.1; done; sleep 0.2; cat /tmp/port')).said;
    expect(await server.stop()).toBe('ready');
    expect(port).toBe('7');
    expect((await root.run('rm /tmp/port; sleep 1; ls /tmp')).said).not.toContain('port');
  }),
);

mergeTest('programs of the other architecture are emulated, and so are those that they start', () =>
  withRipgrep('emulated', async (root) => {
    expect((await root.run('head -c 2 /usr/bin/rg; rg --version')).said).toMatch(/^#!ripgrep \d/);
    // rg starts itself, by the wrapper of that name, as the program that prepares each file.
    expect(
      (await root.run('echo hello >f; printf "#!/bin/sh\\nexec rg -N hell \\$1\\n" >p; chmod +x p; rg --pre ./p -c hello f')).said,
    ).toBe('1');
  }),
);

for (const name of ['bare', 'debian', 'emulated'] as const)
  mergeTest(`${name}: images that an extension requires are merged with it`, async () => {
    const arch = name === 'emulated' ? other : hostArch();
    const [image] = await buildImages(ripgrep, arch, ['portable']);
    const [beside] = await buildImages(yq, arch, ['portable']);
    if (image === undefined || beside === undefined) throw new Error('the build made no image');
    await withUseRoot({ name, image, beside: [beside] }, async (root) => {
      expect((await root.run('echo "a: hello" >f; rg -N hell f | yq .a')).said).toBe('hello');
    });
  });
