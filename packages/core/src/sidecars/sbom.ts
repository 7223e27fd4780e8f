import { PackageURL } from 'packageurl-js';
import parseExpression from 'spdx-expression-parse';
import { UserError } from '../errors.ts';
import type { BuiltComponent, EmbeddedModule, Image, Payload } from '../types.ts';

/** SPDX ids take letters, digits, `.` and `-` (SPDX 2.3, 3.2). */
const spdxId = (text: string): string => `SPDXRef-${text.replaceAll(/[^A-Za-z0-9.-]/g, '-')}`;

const purl = (type: string, name: string, version: string, qualifiers?: Readonly<Record<string, string>>): string => {
  const at = name.lastIndexOf('/');
  return new PackageURL(type, at === -1 ? undefined : name.slice(0, at), name.slice(at + 1), version, qualifiers, undefined).toString();
};

function license(expression: string, component: string): string {
  try {
    parseExpression(expression);
    return expression;
  } catch (cause) {
    throw new UserError(`'${expression}' is no SPDX licence expression (component '${component}')`, {
      next: 'correct it in pins.json',
      cause,
    });
  }
}

const locator = (url: string): string => (/^https?:/.test(url) ? url : 'NOASSERTION');

/** Several licences that all hold, in one expression. */
const allOf = (expressions: readonly string[]): string => {
  const [first = '', ...more] = [...new Set(expressions)];
  if (more.length === 0) return first;
  return [first, ...more].map((one) => (/\s(?:AND|OR|WITH)\s/.test(one) ? `(${one})` : one)).join(' AND ');
};

/** Components of one name are one package: an extension's own files are called as it is, and so may be what it packages. */
function componentPackage(components: readonly BuiltComponent[], files: readonly string[]): object {
  const { name = '', version = '', origin } = components[0] ?? {};
  const materials = components.flatMap((one) => one.materials);
  const expression = allOf(components.map((one) => license(one.license, name)));
  // The bytes of a component are known by one digest only where it is one download.
  const download = origin === 'release' ? materials[0] : undefined;
  const from = components.map((one) => {
    const list = one.materials.map((material) => `${material.locator} (sha256 ${material.sha256}, ${material.proof})`);
    return `origin: ${one.origin}; ${list.join('; ')}`;
  });
  return {
    SPDXID: spdxId(`Component-${name}`),
    name,
    versionInfo: version,
    downloadLocation: materials[0] === undefined ? 'NOASSERTION' : locator(materials[0].locator),
    filesAnalyzed: false,
    // Packages of a distribution, with the libraries that they need, are each listed with a licence of their own.
    licenseConcluded: origin === 'debian' ? 'NOASSERTION' : expression,
    licenseDeclared: expression,
    copyrightText: 'NOASSERTION',
    comment: `${from.join('; ')}; files: ${files.join(' ')}`,
    ...(download === undefined ? {} : { checksums: [{ algorithm: 'SHA256', checksumValue: download.sha256 }] }),
    externalRefs: [
      {
        referenceCategory: 'PACKAGE-MANAGER',
        referenceType: 'purl',
        referenceLocator: purl(
          'generic',
          name,
          version,
          materials[0] === undefined || origin === 'debian' ? undefined : { checksum: `sha256:${materials[0].sha256}` },
        ),
      },
    ],
  };
}

/** Of packages whose copyright file is no SPDX expression: the id that stands for its text. */
const licenseRef = ({ name, version }: EmbeddedModule): string => `LicenseRef-${`${name}-${version}`.replaceAll(/[^A-Za-z0-9.-]/g, '-')}`;

function modulePackage(module: EmbeddedModule): object {
  const { type, name, version, paths, qualifiers, license: found } = module;
  const declared = found === undefined ? 'NOASSERTION' : 'expression' in found ? found.expression : licenseRef(module);
  return {
    SPDXID: spdxId(`Module-${type}-${name}-${version}`),
    name: type === 'deb' ? name.slice(name.indexOf('/') + 1) : name,
    versionInfo: version,
    downloadLocation: 'NOASSERTION',
    filesAnalyzed: false,
    licenseConcluded: 'NOASSERTION',
    licenseDeclared: declared,
    copyrightText: 'NOASSERTION',
    comment: `${type === 'deb' ? 'its files:' : 'compiled into'} ${paths.join(' ')}`,
    externalRefs: [
      { referenceCategory: 'PACKAGE-MANAGER', referenceType: 'purl', referenceLocator: purl(type, name, version, qualifiers) },
    ],
  };
}

/**
 * The SPDX 2.3 document of an image: its components with versions, licences and digests, and the modules found inside
 * their binaries. The same image gives the same bytes: its date is fixed and its namespace is the image's digest.
 */
export function sbomOf(image: Image, payload: Payload): object {
  const { extension, version, arch, target, sha256, sha512, file } = image;
  const { components, modules, tree } = payload;
  const root = spdxId(`Image-${extension}`);
  const names = [...new Set(components.map(({ name }) => name))];
  const filesOf = (name: string): string[] =>
    tree.entries.filter((entry) => entry.component === name && entry.type === 'file').map(({ path }) => path);
  const ownerOf = new Map(tree.entries.map((entry) => [entry.path, entry.component]));
  const relation = (from: string, relationshipType: string, to: string): object => ({
    spdxElementId: from,
    relationshipType,
    relatedSpdxElement: to,
  });
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
        SPDXID: root,
        name: extension,
        versionInfo: version,
        packageFileName: file.split('/').at(-1),
        downloadLocation: 'NOASSERTION',
        filesAnalyzed: false,
        licenseConcluded: 'NOASSERTION',
        licenseDeclared: allOf(components.map((one) => license(one.license, one.name))),
        copyrightText: 'NOASSERTION',
        checksums: [
          { algorithm: 'SHA256', checksumValue: sha256 },
          { algorithm: 'SHA512', checksumValue: sha512 },
        ],
        primaryPackagePurpose: 'OPERATING-SYSTEM',
      },
      ...names.map((name) =>
        componentPackage(
          components.filter((one) => one.name === name),
          filesOf(name),
        ),
      ),
      ...modules.map(modulePackage),
    ],
    ...(modules.some(({ license: found }) => found !== undefined && 'text' in found)
      ? {
          hasExtractedLicensingInfos: modules.flatMap((module) =>
            module.license !== undefined && 'text' in module.license
              ? [{ licenseId: licenseRef(module), extractedText: module.license.text, name: `copyright file of ${module.name}` }]
              : [],
          ),
        }
      : {}),
    relationships: [
      relation('SPDXRef-DOCUMENT', 'DESCRIBES', root),
      ...names.map((name) => relation(root, 'CONTAINS', spdxId(`Component-${name}`))),
      ...modules.flatMap(({ type, name, version: its, paths }) =>
        [...new Set(paths.map((path) => ownerOf.get(path) ?? ''))]
          .filter(Boolean)
          .map((owner) => relation(spdxId(`Component-${owner}`), 'CONTAINS', spdxId(`Module-${type}-${name}-${its}`))),
      ),
    ],
  };
}
