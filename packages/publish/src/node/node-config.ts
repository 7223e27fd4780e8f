import {
  compareVersions,
  linkFolder,
  linkName,
  matchingVersions,
  replacedBuiltIns,
  targetName,
  UserError,
  UserErrors,
  type Arch,
  type ExtensionRef,
  type Target,
} from '@flatcar/core/engine';
import { urlPath, type Channel } from '../tree/layout.ts';
import type { ExtensionIndex, PublishedImage, PublishedVersion } from '../tree/schema.ts';
import { nodeFolder, transferText } from '../tree/transfer.ts';

/** Keeps images up to date and stages the next release's; a part of this repository. */
export const STAGER = 'extension-stager';

/** First systemd whose transfer files are called `.transfer`; older ones read `.conf` only, and newer ones still take it. */
const TRANSFER_SINCE = '257';

/** One extension for one node: a version, what it follows from there, and the image for each target. */
interface Chosen {
  readonly name: string;
  readonly kind: 'sysext' | 'confext';
  readonly channel: Channel;
  readonly version: PublishedVersion;
  readonly images: readonly { readonly target: Target; readonly image: PublishedImage }[];
}

/** The versions that a word means: that one image where it names a revision, else those of an upstream version or of a branch. */
function matching(versions: readonly PublishedVersion[], wanted: string | undefined): readonly PublishedVersion[] {
  const upstreams = versions.map(({ upstream }) => upstream);
  const image = versions.find(({ version }) => version === wanted);
  if (image !== undefined && !upstreams.includes(image.version)) return [image];
  const found = new Set(matchingVersions(upstreams, wanted));
  return versions.filter(({ upstream }) => found.has(upstream));
}

/** The newest version that is not withdrawn and has an image for each target. */
function choose(
  { name, kind, versions }: ExtensionIndex,
  { version: wanted }: ExtensionRef,
  targets: readonly Target[],
  arch: Arch,
): Chosen {
  const asked = wanted === undefined ? name : `${name} ${wanted}`;
  const listed = versions.filter(({ withdrawn }) => withdrawn === undefined);
  const candidates = matching(listed, wanted);
  const imageOf = (version: PublishedVersion, target: Target): PublishedImage | undefined =>
    version.images.find((image) => image.target === targetName(target) && image.architecture === arch);
  for (const version of candidates) {
    const images = targets.flatMap((target) => {
      const image = imageOf(version, target);
      return image === undefined ? [] : [{ target, image }];
    });
    if (images.length < targets.length) continue;
    // What was asked for by its whole number stays there; less than that is a branch to follow.
    const whole = wanted === version.version || wanted === version.upstream;
    const channel: Channel =
      wanted === undefined
        ? { kind: 'latest' }
        : whole
          ? { kind: 'pinned', version: version.version }
          : { kind: 'branch', version: wanted };
    return { name, kind, channel, version, images };
  }
  if (candidates.length === 0) {
    throw new UserError(`${asked} is not published`, {
      next: `there are: ${listed.map(({ version }) => version).join(', ')}`,
    });
  }
  const there = [...new Set(candidates.flatMap(({ images }) => images.filter(({ architecture }) => architecture === arch).map(({ target }) => target)))]; // prettier-ignore
  throw new UserError(`no ${asked} has an image for ${targets.map(targetName).join(' and ')} on ${arch}`, {
    next: there.length === 0 ? `there is none for ${arch}` : `there are images for: ${there.toSorted().join(', ')}`,
  });
}

/** A file with its text, or one that the node fetches and checks by its hash. */
export interface NodeFile {
  readonly path: string;
  readonly contents: { readonly text: string } | { readonly base64: string } | { readonly source: string; readonly sha512: string };
}

/** What a node gets at its first boot; Butane and Ignition are two ways to write it down. */
export interface NodeConfig {
  readonly files: readonly NodeFile[];
  readonly links: readonly { readonly path: string; readonly target: string }[];
  readonly units: readonly { readonly name: string; readonly enabled?: true; readonly contents?: string }[];
}

export interface NodeOptions {
  readonly wanted: readonly ExtensionRef[];
  readonly targets: readonly Target[];
  readonly arch: Arch;
  /** URL under which nodes see the tree. */
  readonly baseUrl: string;
  /** Only images and their links: nothing is ever updated. */
  readonly minimal: boolean;
  /** Names that the tree has, for errors. */
  readonly published?: readonly string[];
  /** False leaves the stager out where it would be added. */
  readonly stager: boolean;
}

export interface NodeResult {
  readonly config: NodeConfig;
  /** What whoever asked should know. */
  readonly notices: readonly string[];
}

const UPDATE_SERVICE = `[Unit]
Description=Newer images of extension %i
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
# Images are told apart by their folder: names of links may begin with the name of another extension.
ExecStartPre=/bin/sh -c 'readlink /etc/extensions/*.raw /var/lib/confexts/*.raw | grep -F /opt/extensions/%i/ >/run/extension-update-%i || true'
ExecStart=/usr/lib/systemd/systemd-sysupdate -C %i update
# A newer image is merged at the next boot; those who plan reboots look for this file.
ExecStartPost=/bin/sh -c 'readlink /etc/extensions/*.raw /var/lib/confexts/*.raw | grep -F /opt/extensions/%i/ | cmp -s - /run/extension-update-%i || touch /run/reboot-required'
`;
const UPDATE_TIMER = `[Unit]
Description=Looks for newer images of extension %i

[Timer]
OnBootSec=15min
OnCalendar=daily
RandomizedDelaySec=4h
Persistent=yes

[Install]
WantedBy=timers.target
`;

function filesOf(
  { name, kind: merges, channel, images }: Chosen,
  { baseUrl, targets, minimal }: NodeOptions,
): Pick<NodeConfig, 'files' | 'links'> {
  const url = baseUrl.replace(/\/+$/, '');
  const bound = images.some(({ target }) => target !== 'portable');
  const placed = images.map(({ target, image }) => {
    const path = `${nodeFolder(name)}/${image.path.split('/').at(-1)}`;
    return {
      file: { path, contents: { source: `${url}/${urlPath(image.path)}`, sha512: image.sha512 } },
      link: { path: `${linkFolder(merges)}/${linkName(name, target)}`, target: path },
    };
  });
  const old = targets.some((target) => target !== 'portable' && compareVersions(target.systemd, TRANSFER_SINCE) < 0);
  const transfer = {
    path: `/etc/sysupdate.${name}.d/${name}.${old ? 'conf' : 'transfer'}`,
    contents: { text: transferText({ name, kind: bound ? 'release' : 'portable', channel, merges, baseUrl }) },
  };
  return { files: [...placed.map(({ file }) => file), ...(minimal ? [] : [transfer])], links: placed.map(({ link }) => link) };
}

/**
 * What a node needs to have these extensions on these releases: images by their hashes, a link per release, and unless `minimal`,
 * what keeps them up to date. `extension` reads the published index of one; `keyring` is what sums are signed by. All that is wrong is told at once.
 */
export async function nodeConfig(
  options: NodeOptions,
  extension: (name: string) => Promise<ExtensionIndex | undefined>,
  keyring: Buffer,
): Promise<NodeResult> {
  const { wanted, targets, arch, minimal } = options;
  const twice = wanted.find(({ name }, index) => wanted.findIndex((one) => one.name === name) !== index);
  if (twice !== undefined) throw new UserError(`${twice.name} is named twice`, { next: 'a node has one version of an extension' });
  if (targets.includes('portable') && targets.length > 1)
    throw new UserError('portable images fit every release: give either portable or releases');
  const notices: string[] = [];
  const chosenOf = async (one: ExtensionRef): Promise<Chosen> => {
    const index = await extension(one.name);
    if (index === undefined)
      throw new UserError(`${one.name} is not published`, {
        next: options.published === undefined ? 'check the name' : `the tree has: ${options.published.join(', ') || 'nothing yet'}`,
      });
    return choose(index, one, one.name === STAGER && hasPortable(index, arch) ? ['portable'] : targets, arch);
  };
  const settled = await Promise.allSettled(wanted.map(chosenOf));
  const errors = settled.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
  const [first] = errors;
  if (first !== undefined) {
    const told = errors.filter((error) => error instanceof UserError);
    throw errors.length === 1 || told.length < errors.length ? first : new UserErrors(`${errors.length} extensions cannot be had`, told);
  }
  const chosen = settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  // Grows while it is read: what is required may require others.
  for (const { name, version } of chosen) {
    for (const other of version.requires) {
      if (chosen.some((that) => that.name === other)) continue;
      notices.push(`${other} comes along: ${name} needs it merged beside`);
      chosen.push(
        await chosenOf({ name: other }).catch((error: unknown) => {
          if (!(error instanceof UserError)) throw error;
          throw new UserError(`${name} needs ${other} merged beside: ${error.message}`, {
            where: error.where,
            next: error.next,
            cause: error,
          });
        }),
      );
    }
  }
  for (const { name, version } of chosen) {
    const other = version.conflicts.find((one) => chosen.some((that) => that.name === one));
    if (other !== undefined) throw new UserError(`${name} and ${other} cannot be merged together`, { next: 'leave one of them out' });
  }

  const isBound = !targets.includes('portable');
  let staged = chosen.some(({ name }) => name === STAGER);
  if (isBound && !minimal && options.stager && !staged) {
    const index = await extension(STAGER);
    if (index !== undefined && hasPortable(index, arch)) {
      chosen.push(choose(index, { name: STAGER }, ['portable'], arch));
      staged = true;
    }
  }
  if (isBound && !staged)
    notices.push(
      `without ${STAGER} nobody fetches the images for the next release before the node boots into it: its extensions are gone then until they are fetched`,
    );

  const parts = chosen.map((one) => filesOf(one, options));
  const disabled = replacedBuiltIns(chosen.flatMap(({ version }) => version.replaces));
  // systemd from 258 on asks for .pgp first.
  const keys = minimal
    ? { files: [], links: [] }
    : {
        files: [{ path: '/etc/systemd/import-pubring.gpg', contents: { base64: keyring.toString('base64') } }],
        links: [{ path: '/etc/systemd/import-pubring.pgp', target: 'import-pubring.gpg' }],
      };
  const units =
    minimal || staged
      ? []
      : [
          { name: 'extension-update@.service', contents: UPDATE_SERVICE },
          { name: 'extension-update@.timer', contents: UPDATE_TIMER },
          ...chosen.map(({ name }) => ({ name: `extension-update@${name}.timer`, enabled: true as const })),
        ];
  return {
    config: {
      files: [...parts.flatMap(({ files }) => files), ...keys.files],
      links: [...parts.flatMap(({ links }) => links), ...disabled, ...keys.links],
      units,
    },
    notices,
  };
}

/** A portable stager does for all releases: it is there before the next one's images are. */
const hasPortable = ({ versions }: ExtensionIndex, arch: Arch): boolean =>
  versions.some(
    ({ withdrawn, images }) =>
      withdrawn === undefined && images.some(({ target, architecture }) => target === 'portable' && architecture === arch),
  );

const MODE = 0o644;

/** The config as Butane has it, variant flatcar 1.1.0 (Ignition 3.4.0, which every release of the catalogue reads). */
export async function butaneText({ files, links, units }: NodeConfig, comment: string): Promise<string> {
  const { Document, visit } = await import('yaml');
  const document = new Document({
    variant: 'flatcar',
    version: '1.1.0',
    storage: {
      files: files.map(({ path, contents }) => ({
        path,
        mode: MODE,
        contents:
          'text' in contents
            ? { inline: contents.text }
            : 'base64' in contents
              ? { source: `data:;base64,${contents.base64}` }
              : { source: contents.source, verification: { hash: `sha512-${contents.sha512}` } },
      })),
      links: links.map(({ path, target }) => ({ path, target, overwrite: true, hard: false })),
    },
    ...(units.length === 0 ? {} : { systemd: { units } }),
  });
  visit(document, {
    Pair(_, { key, value }) {
      if ((key as { value?: unknown }).value === 'mode') (value as { format?: string }).format = 'OCT';
    },
  });
  document.commentBefore = ` ${comment}`;
  // YAML 1.2 writes 0o644, which Butane's reader does not know.
  return document.toString({ lineWidth: 0 }).replaceAll(/^( *(?:- )?mode: )0o(\d+)$/gm, '$10$2');
}

/** The config as Ignition 3.4.0 has it; what Butane would make of `butaneText`. */
export function ignitionConfig({ files, links, units }: NodeConfig): object {
  const source = ({ contents }: NodeFile): object =>
    'text' in contents
      ? { source: `data:,${encodeURIComponent(contents.text)}` }
      : 'base64' in contents
        ? { source: `data:;base64,${contents.base64}` }
        : { source: contents.source, verification: { hash: `sha512-${contents.sha512}` } };
  return {
    ignition: { version: '3.4.0' },
    storage: {
      files: files.map((file) => ({ path: file.path, mode: MODE, contents: source(file) })),
      links: links.map(({ path, target }) => ({ path, target, overwrite: true, hard: false })),
    },
    ...(units.length === 0 ? {} : { systemd: { units } }),
  };
}
