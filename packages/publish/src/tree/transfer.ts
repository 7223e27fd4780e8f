import { basename, dirname } from 'node:path';
import { linkFolder, UserError } from '@flatcar/core/engine';
import { transferPath, type Channel } from './layout.ts';
import type { ExtensionIndex } from './schema.ts';

/** Suffixes under which a transfer file is read: systemd up to 256 takes `.conf`, newer ones `.transfer` (sysupdate.d(5)). */
export const TRANSFER_SUFFIXES = ['.conf', '.transfer'] as const;

/** What a transfer file is made for. */
export interface TransferOptions {
  readonly name: string;
  /** `release` takes images bound to the release that runs the update (`%w`), `portable` those for any. */
  readonly kind: 'portable' | 'release';
  readonly channel: Channel;
  /** What the image is merged as, which decides where it is linked; `sysext` unless said. */
  readonly merges?: 'sysext' | 'confext';
  /** URL of the published tree. */
  readonly baseUrl: string;
  /** Stands for `%w`: a release other than the running one, to have its image before it is booted. */
  readonly release?: string;
  /** Versions kept on the node, the current one included; 2 unless said. */
  readonly instances?: number;
}

/** Folder on nodes that holds an extension's images. */
export const nodeFolder = (name: string): string => `/opt/extensions/${name}`;

/** A systemd specifier starts with `%`: one in a value must be doubled. */
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

/** The text of a transfer file (sysupdate.d(5)). Signatures are always asked for. */
export function transferText(options: TransferOptions): string {
  const { name, kind, baseUrl, release, instances = 2 } = options;
  const url = baseUrl.replace(/\/+$/, '');
  if (!/^https?:\/\/[^\s]+$/.test(url))
    throw new UserError(`'${baseUrl}' is no http(s) URL`, { next: 'give the URL of the published tree' });
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

/** Transfer files of an extension: for portable and for bound images, each in every channel. */
export function transferFiles({ name, kind: merges, versions }: ExtensionIndex, baseUrl: string): Map<string, Buffer> {
  const listed = versions.filter(({ withdrawn }) => withdrawn === undefined);
  const files = new Map<string, Buffer>();
  for (const kind of ['portable', 'release'] as const) {
    const having = listed.filter(({ images }) => images.some(({ target }) => (target === 'portable') === (kind === 'portable')));
    if (having.length === 0) continue;
    // `1.36` follows patches, `1` minors: a branch is what has at least one part more.
    const branches = having.flatMap(({ upstream }) => {
      const parts = upstream.split('.');
      return parts.slice(0, -1).map((_, index) => parts.slice(0, index + 1).join('.'));
    });
    const channels: Channel[] = [
      { kind: 'latest' },
      ...[...new Set(branches)].map((version): Channel => ({ kind: 'branch', version })),
      // Versions of one number are branches of nothing; a pinned one never has the name of a branch.
      ...having.filter(({ version }) => !branches.includes(version)).map(({ version }): Channel => ({ kind: 'pinned', version })),
    ];
    for (const channel of channels) {
      const text = Buffer.from(transferText({ name, kind, channel, merges, baseUrl }));
      for (const suffix of TRANSFER_SUFFIXES) files.set(`${transferPath(name, kind, channel)}${suffix}`, text);
    }
  }
  return files;
}

/** Transfer files of an extension by folder and file name: a destination replaces the files of a folder together. */
export function transferFolders(extension: ExtensionIndex, baseUrl: string): Map<string, Map<string, Buffer>> {
  const folders = Map.groupBy(transferFiles(extension, baseUrl), ([path]) => dirname(path));
  return new Map([...folders].map(([folder, files]) => [folder, new Map(files.map(([path, bytes]) => [basename(path), bytes]))]));
}
