// The definitions of this repository: Go programs of one module have the same settings, so that one call of go compiles them together.
import { allComponents, describePayload, hostArch, type BuiltComponent } from '@flatcar/core/engine';
import { expect, test } from 'vitest';
import { loadAll } from '../src/select.ts';

/** The components of an extension's version, compiled from Go modules where they can be; none if no two are of one module. */
async function goComponents(loaded: Awaited<ReturnType<typeof loadAll>>[number], version: string): Promise<BuiltComponent[]> {
  const { components, own } = await allComponents(loaded, version);
  const modules = components.flatMap(({ component: { origins } }) => origins.flatMap((one) => (one.kind === 'go' ? [one.module] : [])));
  if (new Set(modules).size === modules.length) return [];
  const kinds = [...components, ...own].map(
    ({ component: { origins } }) => (origins.find(({ kind }) => kind === 'go') ?? origins[0])?.kind,
  );
  const request = { version, arch: hostArch(), format: 'squashfs', profile: 'publish' } as const;
  const claims = await describePayload(
    loaded,
    request,
    hostArch(),
    kinds.map((kind) => kind ?? 'files'),
  );
  return claims.components.filter(({ origin }) => origin === 'go');
}

test('components of one Go module are compiled by one call of go', async () => {
  const shared: string[] = [];
  for (const loaded of await loadAll())
    for (const version of Object.keys(loaded.pins)) {
      const modules = Map.groupBy(await goComponents(loaded, version), ({ materials }) => materials[0]?.locator ?? '');
      for (const [module, components] of modules) {
        const settings = components.map(({ parameters }) => {
          const { packages: _, rename: __, ...others } = parameters;
          return others;
        });
        for (const other of settings) expect(other, `${loaded.extension.name} ${version}: ${module}`).toEqual(settings[0]);
        if (components.length > 1) shared.push(`${loaded.extension.name}: ${components.map(({ name }) => name).join(' ')}`);
      }
    }
  // Without it this test would compare nothing.
  expect(shared).toContain('kubernetes: kubelet kubeadm kubectl');
});
