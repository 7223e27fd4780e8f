import { PackageURL } from 'packageurl-js';
import parseExpression from 'spdx-expression-parse';
import { UserError } from '../errors.ts';
import type { BuiltComponent, EmbeddedModule, Image, Payload } from '../types.ts';

/** SPDX ids take letters, digits, `.` and `-` (SPDX 2.3, 3.2). */
const spdxId = (text: string): string => `SPDXRef-${text.replaceAll(/[^A-Za-z0-9.-]/g, '-')}`;

const purl = (type: string, name: string, version: string, qualifiers?: Record<string, string>): string => {
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

function componentPackage(component: BuiltComponent, files: readonly string[]): object {
  const { name, version, origin, materials } = component;
  const [material] = materials;
  const expression = license(component.license, name);
  return {
    SPDXID: spdxId(`Component-${name}`),
    name,
    versionInfo: version,
    downloadLocation: material === undefined ? 'NOASSERTION' : locator(material.locator),
    filesAnalyzed: false,
    licenseConcluded: expression,
    licenseDeclared: expression,
    copyrightText: 'NOASSERTION',
    comment: `origin: ${origin}; ${materials.map(({ locator: from, sha256, proof }) => `${from} (sha256 ${sha256}, ${proof})`).join('; ')}; files: ${files.join(' ')}`,
    ...(material !== undefined && origin === 'release' ? { checksums: [{ algorithm: 'SHA256', checksumValue: material.sha256 }] } : {}),
    externalRefs: [
      {
        referenceCategory: 'PACKAGE-MANAGER',
        referenceType: 'purl',
        referenceLocator: purl('generic', name, version, material === undefined ? undefined : { checksum: `sha256:${material.sha256}` }),
      },
    ],
  };
}

/** Of packages whose copyright file is no SPDX expression: the id that stands for its text. */
const licenseRef = ({ name, version }: EmbeddedModule): string => `LicenseRef-${`${name}-${version}`.replaceAll(/[^A-Za-z0-9.-]/g, '-')}`;

function modulePackage(module: EmbeddedModule): object {
  const { type, name, version, paths, license: found } = module;
  const declared = found === undefined ? 'NOASSERTION' : 'expression' in found ? found.expression : licenseRef(module);
  return {
    SPDXID: spdxId(`Module-${type}-${name}-${version}`),
    name,
    versionInfo: version,
    downloadLocation: 'NOASSERTION',
    filesAnalyzed: false,
    licenseConcluded: 'NOASSERTION',
    licenseDeclared: declared,
    copyrightText: 'NOASSERTION',
    comment: `${type === 'deb' ? 'its files:' : 'compiled into'} ${paths.join(' ')}`,
    externalRefs: [{ referenceCategory: 'PACKAGE-MANAGER', referenceType: 'purl', referenceLocator: purl(type, name, version) }],
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
        licenseDeclared: [...new Set(components.map((one) => license(one.license, one.name)))]
          .map((one) => (/\s(?:AND|OR|WITH)\s/.test(one) ? `(${one})` : one))
          .join(' AND '),
        copyrightText: 'NOASSERTION',
        checksums: [
          { algorithm: 'SHA256', checksumValue: sha256 },
          { algorithm: 'SHA512', checksumValue: sha512 },
        ],
        primaryPackagePurpose: 'OPERATING-SYSTEM',
      },
      ...components.map((component) => componentPackage(component, filesOf(component.name))),
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
      ...components.map(({ name }) => relation(root, 'CONTAINS', spdxId(`Component-${name}`))),
      ...modules.flatMap(({ type, name, version: its, paths }) =>
        [...new Set(paths.map((path) => ownerOf.get(path) ?? ''))]
          .filter(Boolean)
          .map((owner) => relation(spdxId(`Component-${owner}`), 'CONTAINS', spdxId(`Module-${type}-${name}-${its}`))),
      ),
    ],
  };
}
