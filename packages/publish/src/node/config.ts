import { compareVersions, linkFolder, linkName, replacedBuiltIns } from '@flatcar/core/browser';
import { fileName, urlPath } from '../tree/layout.ts';
import { nodeFolder, transferText } from '../tree/transfer.ts';
import { selectExtensions, type NodeOptions, type ReadExtension, type SelectedExtension } from './select.ts';
import { updateUnits, type NodeUnit } from './units.ts';

/** First systemd that prefers the suffix `.transfer`; older versions read only `.conf`, which newer versions read as well. */
const TRANSFER_SINCE = '257';
/** Mode of all files of a node. */
export const FILE_MODE = 0o644;

const base64Of = (bytes: Uint8Array): string => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));

/** A file with its text or bytes, or a file that the node downloads and checks by its hash. */
export interface NodeFile {
  readonly path: string;
  readonly contents: { readonly text: string } | { readonly base64: string } | { readonly source: string; readonly sha512: string };
}

/** A symbolic link. */
export interface NodeLink {
  readonly path: string;
  readonly target: string;
}

/** What a node gets at its first boot; written as Butane or as Ignition. */
export interface NodeConfig {
  readonly files: readonly NodeFile[];
  readonly links: readonly NodeLink[];
  readonly units: readonly NodeUnit[];
}

export interface NodeResult {
  readonly config: NodeConfig;
  /** What the operator should know. */
  readonly notices: readonly string[];
}

/** Images of an extension, each with its link. */
function imageFiles({ name, kind, images }: SelectedExtension, baseUrl: string): { files: NodeFile[]; links: NodeLink[] } {
  const url = baseUrl.replace(/\/+$/, '');
  const pathOf = (path: string): string => `${nodeFolder(name)}/${fileName(path)}`;
  return {
    files: images.map(({ image: { path, sha512 } }) => ({ path: pathOf(path), contents: { source: `${url}/${urlPath(path)}`, sha512 } })),
    links: images.map(({ target, image }) => ({ path: `${linkFolder(kind)}/${linkName(name, target)}`, target: pathOf(image.path) })),
  };
}

/** The transfer file of an extension, under the suffix that the oldest of the releases reads. */
function transferFile({ name, kind: merges, channel, images }: SelectedExtension, { baseUrl, targets }: NodeOptions): NodeFile {
  const isOld = targets.some((target) => target !== 'portable' && compareVersions(target.systemd, TRANSFER_SINCE) < 0);
  const kind = images.some(({ target }) => target !== 'portable') ? 'release' : 'portable';
  return {
    path: `/etc/sysupdate.${name}.d/${name}.${isOld ? 'conf' : 'transfer'}`,
    contents: { text: transferText({ name, kind, channel, merges, baseUrl }) },
  };
}

/**
 * What a node needs to have these extensions on these releases: images with their hashes, a link per release, and, unless `minimal`, the
 * transfer files, units and keyring by which the node updates them. `keyring` has the keys that sign the sums.
 */
export async function nodeConfig(options: NodeOptions, readExtension: ReadExtension, keyring: Uint8Array): Promise<NodeResult> {
  const { baseUrl, minimal } = options;
  const { extensions, hasStager, notices } = await selectExtensions(options, readExtension);
  const images = extensions.map((one) => imageFiles(one, baseUrl));
  const builtIns = replacedBuiltIns(extensions.flatMap(({ version }) => version.replaces));
  const files = images.flatMap((one) => one.files);
  const links = [...images.flatMap((one) => one.links), ...builtIns];
  if (minimal) return { config: { files, links, units: [] }, notices };
  return {
    config: {
      files: [
        ...extensions.flatMap((one, index) => [...(images[index]?.files ?? []), transferFile(one, options)]),
        { path: '/etc/systemd/import-pubring.gpg', contents: { base64: base64Of(keyring) } },
      ],
      // systemd 258 and newer look for .pgp first.
      links: [...links, { path: '/etc/systemd/import-pubring.pgp', target: 'import-pubring.gpg' }],
      units: hasStager ? [] : updateUnits(extensions.map(({ name }) => name)),
    },
    notices,
  };
}
