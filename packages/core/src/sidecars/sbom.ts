import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import parseExpression from 'spdx-expression-parse';
import { UserError } from '../util/errors.ts';
import type { Image } from '../model/image.ts';
import type { BuiltComponent, EmbeddedModule, Payload, SourcePackage } from '../model/payload.ts';
import { purl } from './purl.ts';

const shortDigest = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 12);

/**
 * An SPDX id (SPDX 2.3, 3.2: letters, digits, `.` and `-`), unique for its words: with several words, or with other characters, it ends in their
 * digest.
 */
function spdxId(kind: string, ...words: readonly string[]): string {
  const text = words.join('-');
  const plain = text.replaceAll(/[^A-Za-z0-9.-]/g, '-');
  return `SPDXRef-${kind}-${plain}${words.length === 1 && plain === text ? '' : `-${shortDigest(words.join('\n'))}`}`;
}

/** The SPDX id of the components with one name; publish checks that an SBOM has it. */
export const componentId = (name: string): string => spdxId('Component', name);

const moduleId = ({ type, name, version }: EmbeddedModule): string => spdxId('Module', type, name, version);
const distributionId = (distro: string): string => spdxId('Distribution', distro);
const sourceId = ({ name, version }: SourcePackage): string => spdxId('Source', name, version);

const packageRef = (locator: string): object => ({
  referenceCategory: 'PACKAGE-MANAGER',
  referenceType: 'purl',
  referenceLocator: locator,
});

/** Default fields of every package of the document, whose files are not listed. */
const UNKNOWN = {
  downloadLocation: 'NOASSERTION',
  filesAnalyzed: false,
  licenseConcluded: 'NOASSERTION',
  licenseDeclared: 'NOASSERTION',
  copyrightText: 'NOASSERTION',
};

function license(expression: string, component: string): string {
  try {
    parseExpression(expression);
    return expression;
  } catch (cause) {
    throw new UserError(`'${expression}' is not a valid SPDX license expression (component '${component}')`, {
      next: 'correct it in pins.json',
      cause,
    });
  }
}

const isUrl = (locator: string): boolean => /^https?:/.test(locator);

/** Joins licences that all apply into one expression. */
const allOf = (expressions: readonly string[]): string => {
  const [first = '', ...more] = [...new Set(expressions)];
  if (more.length === 0) return first;
  return [first, ...more].map((one) => (/\s(?:AND|OR|WITH)\s/.test(one) ? `(${one})` : one)).join(' AND ');
};

/** One package for all components with one name: an extension's own files have its name, and another component may, too. */
function componentPackage(components: readonly BuiltComponent[], files: readonly string[]): object {
  const { name = '', version = '', origin } = components[0] ?? {};
  const [material] = components.flatMap((one) => one.materials);
  const expression = allOf(components.map((one) => license(one.license, name)));
  // Only a component that is one download has one digest.
  const download = origin === 'upstream' ? material : undefined;
  const from = components.map((one) => {
    const list = one.materials.map(({ locator, sha256, proof }) => `${locator} (sha256 ${sha256}, ${proof})`);
    return `${one.version}, origin: ${one.origin}; ${list.join('; ')}`;
  });
  return {
    ...UNKNOWN,
    SPDXID: componentId(name),
    name,
    versionInfo: version,
    downloadLocation: material === undefined || !isUrl(material.locator) ? 'NOASSERTION' : material.locator,
    // Each package of a distribution is listed with its own licence.
    licenseConcluded: origin === 'debian' ? 'NOASSERTION' : expression,
    licenseDeclared: expression,
    comment: `${from.join('; ')}; files: ${files.join(' ')}`,
    checksums: download === undefined ? undefined : [{ algorithm: 'SHA256', checksumValue: download.sha256 }],
    externalRefs: [
      packageRef(
        purl(
          'generic',
          name,
          version,
          download === undefined ? undefined : { checksum: `sha256:${download.sha256}`, download_url: download.locator },
        ),
      ),
    ],
  };
}

/** The id of the text of a copyright file without an SPDX expression; packages of one source share it. */
const licenseRef = (text: string): string => `LicenseRef-copyright-${shortDigest(text)}`;

function declaredLicense({ license: found }: EmbeddedModule): string {
  if (found === undefined) return 'NOASSERTION';
  return 'expression' in found ? found.expression : licenseRef(found.text);
}

/**
 * The source of a Debian package in the two forms that scanners read: `upstream` of the package URL (grype), and a sentence (Trivy). The first has
 * the version of the source only if it differs from the package's.
 */
function sourceHints({ version, source }: EmbeddedModule): { upstream?: string; sourceInfo?: string } {
  if (source === undefined) return {};
  return {
    upstream: source.version === version ? source.name : `${source.name}@${source.version}`,
    sourceInfo: `built package from: ${source.name} ${source.version}`,
  };
}

function modulePackage(module: EmbeddedModule): object {
  const { type, name, version, paths, qualifiers } = module;
  const { upstream, sourceInfo } = sourceHints(module);
  return {
    ...UNKNOWN,
    SPDXID: moduleId(module),
    name: type === 'deb' ? name.slice(name.indexOf('/') + 1) : name,
    versionInfo: version,
    sourceInfo,
    licenseDeclared: declaredLicense(module),
    comment: `${type === 'deb' ? 'its files:' : 'compiled into'} ${paths.join(' ')}`,
    externalRefs: [packageRef(purl(type, name, version, upstream === undefined ? qualifiers : { ...qualifiers, upstream }))],
  };
}

/** Vulnerability trackers list source packages, and so do scanners that do not read `upstream` (osv-scanner). */
const sourcePackage = (source: SourcePackage, distro: string): object => ({
  ...UNKNOWN,
  SPDXID: sourceId(source),
  name: source.name,
  versionInfo: source.version,
  primaryPackagePurpose: 'SOURCE',
  externalRefs: [packageRef(purl('deb', `debian/${source.name}`, source.version, { arch: 'source', distro }))],
});

/** The distribution of packages, such as `debian-13`: Trivy reads the release from the package with this purpose. */
const distributionPackage = (distro: string): object => {
  const [name = '', version = ''] = distro.split('-');
  return { ...UNKNOWN, SPDXID: distributionId(distro), name, versionInfo: version, primaryPackagePurpose: 'OPERATING-SYSTEM' };
};

const relation = (from: string, relationshipType: string, to: string): object => ({
  spdxElementId: from,
  relationshipType,
  relatedSpdxElement: to,
});

/** The source packages of Debian's packages, each once, their distributions, and the relationships between them. */
function debianParts(root: string, modules: readonly EmbeddedModule[]): { packages: object[]; relationships: object[] } {
  const sources = new Map<string, object>();
  const distributions = new Map<string, object>();
  const relationships: object[] = [];
  for (const module of modules.filter(({ type }) => type === 'deb')) {
    const distro = module.qualifiers?.['distro'] ?? '';
    distributions.set(distro, distributionPackage(distro));
    const related = new Map<string, string>();
    const add = (source: SourcePackage, how: string): void => {
      const id = sourceId(source);
      sources.set(id, sourcePackage(source, distro));
      if (!related.has(id)) related.set(id, how);
    };
    if (module.source !== undefined) add(module.source, 'GENERATED_FROM');
    for (const one of module.builtUsing ?? []) add(one, 'STATIC_LINK');
    for (const [id, how] of related) relationships.push(relation(moduleId(module), how, id));
  }
  relationships.push(...[...distributions.keys()].map((distro) => relation(root, 'GENERATED_FROM', distributionId(distro))));
  return { packages: [...distributions.values(), ...sources.values()], relationships };
}

/** The texts of the licence ids of this document, each once. */
function extractedLicenses(modules: readonly EmbeddedModule[]): object[] | undefined {
  const texts = new Map<string, string[]>();
  for (const { name, license: found } of modules)
    if (found !== undefined && 'text' in found) texts.set(found.text, [...(texts.get(found.text) ?? []), name]);
  if (texts.size === 0) return undefined;
  return [...texts].map(([text, names]) => ({
    licenseId: licenseRef(text),
    extractedText: text,
    name: `copyright file of ${names.join(', ')}`,
  }));
}

/**
 * The SPDX 2.3 document of an image: its components with versions, licences and digests, the modules in their binaries, and the packages and source
 * packages of a distribution. The same image gives the same bytes: the date is fixed, and the namespace is the image's digest.
 */
export function sbomOf(image: Image, payload: Payload): object {
  const { extension, version, arch, target, sha256, sha512, file } = image;
  const { components, modules, tree } = payload;
  const root = spdxId('Image', extension);
  const names = [...new Set(components.map(({ name }) => name))];
  const filesOf = (name: string): string[] =>
    tree.entries.filter((entry) => entry.component === name && entry.type === 'file').map(({ path }) => path);
  const ownerOf = new Map(tree.entries.map((entry) => [entry.path, entry.component]));
  /** The components whose files contain a module, or else the image. */
  const holders = ({ paths }: EmbeddedModule): string[] => {
    const owners = [...new Set(paths.map((path) => ownerOf.get(path) ?? ''))].filter((owner) => names.includes(owner));
    return owners.length === 0 ? [root] : owners.map(componentId);
  };
  const debian = debianParts(root, modules);
  return {
    spdxVersion: 'SPDX-2.3',
    dataLicense: 'CC0-1.0',
    SPDXID: 'SPDXRef-DOCUMENT',
    name: `${extension}-${version}-${target}-${arch}`,
    documentNamespace: `https://extensions.flatcar.org/spdx/${extension}/${sha256}`,
    creationInfo: {
      created: '1970-01-01T00:00:00Z',
      creators: ['Tool: flatcar-ext'],
      comment: 'the date is fixed so that the document is reproducible',
    },
    packages: [
      {
        ...UNKNOWN,
        SPDXID: root,
        name: extension,
        versionInfo: version,
        packageFileName: basename(file),
        licenseDeclared: allOf(components.map((one) => license(one.license, one.name))),
        checksums: [
          { algorithm: 'SHA256', checksumValue: sha256 },
          { algorithm: 'SHA512', checksumValue: sha512 },
        ],
        primaryPackagePurpose: 'ARCHIVE',
      },
      ...names.map((name) =>
        componentPackage(
          components.filter((one) => one.name === name),
          filesOf(name),
        ),
      ),
      ...modules.map(modulePackage),
      ...debian.packages,
    ],
    hasExtractedLicensingInfos: extractedLicenses(modules),
    relationships: [
      relation('SPDXRef-DOCUMENT', 'DESCRIBES', root),
      ...names.map((name) => relation(root, 'CONTAINS', componentId(name))),
      ...modules.flatMap((module) => holders(module).map((holder) => relation(holder, 'CONTAINS', moduleId(module)))),
      ...debian.relationships,
    ],
  };
}
