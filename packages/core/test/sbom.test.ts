import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { PackageURL } from 'packageurl-js';
import parseExpression from 'spdx-expression-parse';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openArchive } from '../src/debian/archive.ts';
import { exec } from '../src/util/exec.ts';
import { componentsOf } from '../src/definition/components.ts';
import { loadExtension } from '../src/definition/load.ts';
import { isPackageLocator } from '../src/model/locator.ts';
import { buildExtension, type BuildResult } from '../src/pipeline/build.ts';
import { sidecarPaths } from '../src/sidecars/paths.ts';
import { openStore } from '../src/store/store.ts';
import { openTools } from '../src/tools/tools.ts';
import type { Arch } from '../src/model/arch.ts';

/** What this test reads of an SPDX 2.3 document. */
interface Sbom {
  readonly packages: {
    readonly SPDXID: string;
    readonly name: string;
    readonly versionInfo: string;
    readonly licenseDeclared: string;
    readonly sourceInfo?: string;
    readonly externalRefs?: { readonly referenceLocator: string }[];
  }[];
  readonly relationships: { readonly spdxElementId: string; readonly relationshipType: string; readonly relatedSpdxElement: string }[];
  readonly hasExtractedLicensingInfos?: { readonly licenseId: string; readonly extractedText: string }[];
}

type Package = Sbom['packages'][number];
const locatorOf = (one: Package | undefined): string => one?.externalRefs?.[0]?.referenceLocator ?? '';
const debsOf = ({ packages }: Sbom): Package[] => packages.filter((one) => locatorOf(one).startsWith('pkg:deb/debian/'));

const store = openStore();
let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'sbom-test-'));
  await mkdir(join(dir, 'files/usr/share/ripgrep'), { recursive: true });
  await writeFile(join(dir, 'files/usr/share/ripgrep/own'), 'ours\n');
});
afterAll(() => rm(dir, { recursive: true, force: true }));

// A real small image of packages, ripgrep's, with a file of the extension's own beside them.
describe.each(['x86-64', 'arm64'] as const)('the SBOM of packages for %s', (arch: Arch) => {
  let built: BuildResult;
  let sbom: Sbom;
  /** Packages by name: as they are pinned, and as dpkg says what is in them. */
  const packages = new Map<string, { version: string; architecture: string; source: string; files: string[] }>();

  beforeAll(async () => {
    const real = await loadExtension(join(import.meta.dirname, '../../../extensions/ripgrep'));
    const [version = ''] = Object.keys(real.pins);
    const { pin, components } = await componentsOf(real, version);
    const origin = components[0]?.component.origins[0];
    if (origin?.kind !== 'debian') throw new Error('ripgrep is no longer made of packages: take another extension for this test');
    built = await buildExtension(
      { ...real, dir },
      {
        version,
        arch,
        targets: ['portable'],
        profile: 'fast',
        origin: 'auto',
        out: join(dir, arch),
        store,
        tools: openTools(store),
        report: () => undefined,
      },
    );
    sbom = JSON.parse(await readFile(sidecarPaths(built.images[0]?.file ?? '').sbom, 'utf8')) as Sbom;
    const word = arch === 'arm64' ? 'arm64' : 'amd64';
    const archive = openArchive(store);
    for (const [locator, { sha256, size }] of Object.entries(pin.bytes)) {
      if (!isPackageLocator(locator) || !(locator.endsWith(`_${word}.deb`) || locator.endsWith('_all.deb'))) continue;
      const path = locator.slice('debian:'.length);
      const file = await archive.fetchPackage({ path, sha256, size }, { suite: origin.suite, arch, repin: '' });
      const format = '${Package} ${Version} ${Architecture} ${source:Package}@${source:Version}';
      const [name = '', version = '', architecture = '', source = ''] = (
        await exec('dpkg-deb', ['--showformat', format, '--show', file])
      ).split(' ');
      const files = (await exec('dpkg-deb', ['--contents', file])).split('\n').map((line) => basename(line.split(' -> ')[0] ?? ''));
      packages.set(name, { version, architecture, source, files });
    }
  });

  test('lists each package that files of the image come from, with its version and a licence that can be read', () => {
    const entries = built.payloads[0]?.tree.entries ?? [];
    const objects = entries.filter(({ type, path }) => type === 'file' && /^usr\/(?:bin|lib\/ripgrep)\//.test(path));
    const owners = objects.map(
      ({ path }) => [...packages].find(([, { files }]) => files.includes(basename(path)))?.[0] ?? `nobody has ${path}`,
    );
    const expected = [...new Set(owners)].toSorted();
    expect(expected).toEqual(['libc6', 'libgcc-s1', 'libpcre2-8-0', 'ripgrep']);
    const debs = debsOf(sbom).filter((one) => locatorOf(one).includes(`arch=${arch === 'arm64' ? 'arm64' : 'amd64'}`));
    expect(debs.map(({ name }) => name).toSorted()).toEqual(expected);
    const texts = new Map((sbom.hasExtractedLicensingInfos ?? []).map((one) => [one.licenseId, one.extractedText]));
    for (const one of debs) {
      const { name, versionInfo, licenseDeclared, sourceInfo } = one;
      const { version = '', source = '' } = packages.get(name) ?? {};
      expect(versionInfo, name).toBe(version);
      const [from = '', fromVersion = ''] = source.split('@');
      expect(sourceInfo, name).toBe(`built package from: ${from} ${fromVersion}`);
      const { namespace, version: inUrl, qualifiers } = PackageURL.fromString(locatorOf(one));
      expect({ namespace, version: inUrl, ...qualifiers }).toEqual({
        namespace: 'debian',
        version,
        arch: packages.get(name)?.architecture,
        distro: 'debian-13',
        upstream: fromVersion === version ? from : source,
      });
      expect(licenseDeclared, name).not.toMatch(/NOASSERTION|NONE/);
      expect(() => parseExpression(licenseDeclared), licenseDeclared).not.toThrow();
      if (licenseDeclared.startsWith('LicenseRef-')) expect(texts.get(licenseDeclared), licenseDeclared).toMatch(/licen[cs]e/i);
    }
    // Its folder of documentation is a link to that of a package that no file of the image comes from.
    const libgcc = debs.find(({ name }) => name === 'libgcc-s1');
    expect(texts.get(libgcc?.licenseDeclared ?? '')).toMatch(/GCC Runtime Library Exception/i);
    expect(packages.has('gcc-14-base')).toBe(true);
  });

  test('lists the source packages that security trackers know, of the packages and of what was compiled into them', () => {
    const ids = new Map(debsOf(sbom).map((one) => [`${one.name}@${one.versionInfo}`, one]));
    const used = debsOf(sbom).filter((one) => one.sourceInfo !== undefined);
    for (const one of used) {
      const source = ids.get(packages.get(one.name)?.source ?? '');
      expect(locatorOf(source), one.name).toMatch(/\?arch=source&distro=debian-13$/);
      expect(sbom.relationships).toContainEqual({
        spdxElementId: one.SPDXID,
        relationshipType: 'GENERATED_FROM',
        relatedSpdxElement: source?.SPDXID,
      });
    }
    const ripgrep = used.find(({ name }) => name === 'ripgrep');
    const compiledIn = sbom.relationships
      .filter((one) => one.spdxElementId === ripgrep?.SPDXID && one.relationshipType === 'STATIC_LINK')
      .map((one) => sbom.packages.find(({ SPDXID }) => SPDXID === one.relatedSpdxElement)?.name);
    expect(compiledIn).toEqual(expect.arrayContaining(['rustc', 'rust-regex-automata', 'rust-memchr']));
  });

  test('has package URLs in their canonical form', () => {
    for (const one of sbom.packages.filter(({ externalRefs }) => externalRefs !== undefined)) {
      const [path = '', query = ''] = locatorOf(one).split('?');
      // What must be encoded is, and `:` never (purl-spec, "Character encoding").
      expect(path).toMatch(/^pkg:[a-z]+\/(?:[\w.~:@/-]|%(?!3A)[0-9A-F]{2})+$/);
      expect(query).toMatch(/^(?:[a-z_]+=(?:[\w.~:-]|%(?!3A)[0-9A-F]{2})+(?:&(?!$)|$))*$/);
      expect(query.split('&')).toEqual(query.split('&').toSorted());
    }
  });

  test('names each thing once, and speaks of nothing that it does not have', () => {
    const ids = sbom.packages.map(({ SPDXID }) => SPDXID);
    expect(ids.toSorted()).toEqual([...new Set(ids)].toSorted());
    for (const { spdxElementId, relatedSpdxElement } of sbom.relationships) {
      expect(['SPDXRef-DOCUMENT', ...ids]).toContain(spdxElementId);
      expect(ids).toContain(relatedSpdxElement);
    }
    expect(ids.filter((id) => !sbom.relationships.some((one) => one.relatedSpdxElement === id))).toEqual([]);
    const own = sbom.packages.find(({ SPDXID }) => SPDXID === 'SPDXRef-Component-ripgrep');
    expect(own?.licenseDeclared, "packages' licence and that of our own files").toMatch(/AND Apache-2\.0$/);
  });
});
