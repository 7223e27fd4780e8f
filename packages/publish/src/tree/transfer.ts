import { linkFolder, UserError } from '@flatcar/core/browser';
import { fileName, folderName, transferPath, type Channel } from './layout.ts';
import type { ExtensionIndex, PublishedVersion } from './schema.ts';

/** Suffixes of transfer files: systemd up to 256 reads `.conf`, newer versions prefer `.transfer` (sysupdate.d(5)). */
const TRANSFER_SUFFIXES = ['.conf', '.transfer'] as const;

/** What a transfer file is for. */
export interface TransferOptions {
  readonly name: string;
  /** `release`: images bound to the running release (`%w`). `portable`: images for any release. */
  readonly kind: 'portable' | 'release';
  readonly channel: Channel;
  /** What the image is merged as, which decides where it is linked; by default `sysext`. */
  readonly merges?: 'sysext' | 'confext';
  /** URL of the published tree. */
  readonly baseUrl: string;
  /** A release in place of `%w`: fetches its image before the node boots into it. */
  readonly release?: string;
  /** Versions kept on the node, the current one included; by default 2. */
  readonly instances?: number;
}

/** Folder of an extension's images on nodes. */
export const nodeFolder = (name: string): string => `/opt/extensions/${name}`;

/** Doubles `%`, which starts a systemd specifier. */
const escape = (text: string): string => text.replaceAll('%', '%%');

/**
 * The image names of a channel as a pattern of sysupdate.d(5). Extension, target and architecture are literal: signed sums list bare file
 * names, so that a server could otherwise offer the image of another folder. systemd requires an `@v`. In the pattern of a pinned version it
 * matches the middle of the suffix `raw`, because every other part is literal.
 */
function imagePattern({ name, kind, channel, release }: TransferOptions): string {
  const target = kind === 'portable' ? 'portable' : (release ?? '%w');
  if (channel.kind === 'latest') return `${name}.${target}_@v_%a.raw`;
  const { version } = channel;
  if (!/^[0-9A-Za-z][0-9A-Za-z.+-]*$/.test(version)) throw new UserError(`'${version}' is not a valid version`);
  return channel.kind === 'branch' ? `${name}.${target}_${version}.@v_%a.raw` : `${name}.${target}_${version}_%a.r@vw`;
}

/** The text of a transfer file (sysupdate.d(5)). Signatures are always required. */
export function transferText(options: TransferOptions): string {
  const { name, kind, baseUrl, release, instances = 2 } = options;
  const url = baseUrl.replace(/\/+$/, '');
  if (!/^https?:\/\/[^\s]+$/.test(url))
    throw new UserError(`'${baseUrl}' is not a valid http(s) URL`, { next: 'pass the URL of the published tree' });
  const names = imagePattern(options);
  const target = kind === 'portable' ? 'portable' : (release ?? '%w');
  const link = kind === 'portable' ? name : `${name}-${release ?? '%w'}`;
  return [
    '[Transfer]',
    'Verify=yes',
    '',
    '[Source]',
    'Type=url-file',
    `Path=${escape(url)}/${name}/${target}/`,
    `MatchPattern=${names}`,
    '',
    '[Target]',
    'Type=regular-file',
    `Path=${nodeFolder(name)}`,
    `MatchPattern=${names}`,
    `CurrentSymlink=${linkFolder(options.merges ?? 'sysext')}/${link}.raw`,
    'Mode=0644',
    `InstancesMax=${instances}`,
    '',
  ].join('\n');
}

/** Versions of an extension that a transfer file can follow: its newest, its branches, and each single version. */
function channelsOf(versions: readonly PublishedVersion[]): Channel[] {
  // `1.36` follows patches, `1` minors: a branch has at least one part less than its versions.
  const branches = versions.flatMap(({ upstream }) => {
    const parts = upstream.split('.');
    return parts.slice(0, -1).map((_, index) => parts.slice(0, index + 1).join('.'));
  });
  // A version of one number belongs to no branch. A pinned version never has the name of a branch.
  const pinned = versions.filter(({ version }) => !branches.includes(version));
  return [
    { kind: 'latest' },
    ...[...new Set(branches)].map((version): Channel => ({ kind: 'branch', version })),
    ...pinned.map(({ version }): Channel => ({ kind: 'pinned', version })),
  ];
}

/** Transfers of an extension: for portable and for bound images, if it has such images, in every channel. */
function transfersOf({ versions }: ExtensionIndex): Pick<TransferOptions, 'kind' | 'channel'>[] {
  const available = versions.filter(({ withdrawn }) => withdrawn === undefined);
  return (['portable', 'release'] as const).flatMap((kind) => {
    const having = available.filter(({ images }) => images.some(({ target }) => (target === 'portable') === (kind === 'portable')));
    return having.length === 0 ? [] : channelsOf(having).map((channel) => ({ kind, channel }));
  });
}

const pathsOf = (name: string, { kind, channel }: Pick<TransferOptions, 'kind' | 'channel'>): string[] =>
  TRANSFER_SUFFIXES.map((suffix) => `${transferPath(name, kind, channel)}${suffix}`);

/** Paths of an extension's transfer files. */
export const transferPaths = (extension: ExtensionIndex): Set<string> =>
  new Set(transfersOf(extension).flatMap((transfer) => pathsOf(extension.name, transfer)));

/** Transfer files of an extension by folder and file name: a destination replaces the files of a folder together. */
export function transferFolders(extension: ExtensionIndex, baseUrl: string): Map<string, Map<string, Buffer>> {
  const { name, kind: merges } = extension;
  const folders = new Map<string, Map<string, Buffer>>();
  for (const transfer of transfersOf(extension)) {
    const text = Buffer.from(transferText({ name, ...transfer, merges, baseUrl }));
    for (const path of pathsOf(name, transfer)) {
      const files = folders.get(folderName(path)) ?? new Map<string, Buffer>();
      folders.set(folderName(path), files.set(fileName(path), text));
    }
  }
  return folders;
}
