import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { envOf } from '../util/env.ts';
import { UserError } from '../util/errors.ts';
import { paragraphs, words } from './deb822.ts';

const textOf = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '');

/** A URL without slashes at its end. */
export const trimUrl = (url: string): string => url.replace(/\/+$/, '');

/** The archive of security updates that belongs to an archive, on mirrors as on the snapshot archive: `/debian-security` beside `/debian`. */
export const securityArchive = (url: string): string => url.replace(/(?:\/\d{8}T\d{6}Z)?$/, '-security$&');

/** An entry of apt's sources for binary packages. */
export interface AptSource {
  readonly uris: readonly string[];
  readonly suites: readonly string[];
  readonly components: readonly string[];
  /** Key file or fingerprint of `Signed-By`; empty unless specified, and for a key that is embedded. */
  readonly signedBy: string;
}

/** Reads the entries for binary packages of one of apt's source files, of either form (sources.list(5)); disabled entries are left out. */
export function parseSources(name: string, text: string): AptSource[] {
  const plain = text.replaceAll(/^[ \t]*#.*\n?/gm, '');
  if (name.endsWith('.sources')) {
    return paragraphs(plain)
      .map((entry) => new Map([...entry].map(([key, value]) => [key.toLowerCase(), value])))
      .filter(
        (entry) => words(entry.get('types')).includes('deb') && !/^(no|false|without|off|disable|0)$/i.test(entry.get('enabled') ?? ''),
      )
      .map((entry) => ({
        uris: words(entry.get('uris')),
        suites: words(entry.get('suites')),
        components: words(entry.get('components')),
        signedBy: words(entry.get('signed-by')).join(' '),
      }));
  }
  return [...plain.matchAll(/^[ \t]*deb[ \t]+(?:\[([^\]\n]*)\][ \t]+)?(\S+)[ \t]+(\S+)([^#\n]*)/gm)].map(
    ([, options, uri = '', suite = '', rest]) => ({
      uris: [uri],
      suites: [suite],
      components: words(rest),
      signedBy: /(?:^|\s)signed-by=(\S+)/i.exec(options ?? '')?.[1] ?? '',
    }),
  );
}

/** Debian's own suites; the host's codename is added. A derivative uses other names with `-updates`. */
const DEBIAN_SUITE = /^(?:(?:old)*stable|testing|unstable|sid|bullseye|bookworm|trixie|forky|duke)$/;

/** The first URL of an entry that this program can use: http(s) without a password, directly or from a list on the host. */
async function usableUrl({ uris }: AptSource, root: string): Promise<URL | undefined> {
  for (const uri of uris) {
    // Cloud images keep the mirror in a list of its own: URLs, each with options after it, and comments (apt-transport-mirror(1)).
    const list = /^mirror\+file:\/*(\/.*)/.exec(uri)?.[1];
    const urls =
      list === undefined ? [uri] : (await textOf(join(root, list))).split('\n').map((line) => words(line.replace(/#.*/, ''))[0] ?? '');
    for (const text of urls) {
      // tor+http:, cdrom:, file:, mirror: and the like need apt, as does a placeholder such as `$(ARCH)`.
      if (!/^https?:\/\//.test(text) || text.includes('$(') || !URL.canParse(text)) continue;
      const url = new URL(text);
      // Passwords would end up in messages and build records; FLATCAR_EXT_DEBIAN_MIRROR allows them.
      if (url.username === '' && url.password === '') return url;
    }
  }
  return undefined;
}

/**
 * The mirror from which apt on this host installs Debian, if the host is a Debian. Derivatives do not count: their own archives have the same
 * form, and even the path `/debian`. Third-party archives for Debian also use `main` and `/debian`: the mirror is the entry with
 * one of Debian's suites and `-updates`, else one at the path `/debian` that is not signed by a third-party key.
 */
export async function mirrorOfHost(root = '/'): Promise<string | undefined> {
  const osRelease = (await textOf(join(root, 'etc/os-release'))) || (await textOf(join(root, 'usr/lib/os-release')));
  const field = (key: string): string => new RegExp(`^${key}=["']?([^"'\n]*)`, 'm').exec(osRelease)?.[1] ?? '';
  if (field('ID') !== 'debian') return undefined;
  const isSuite = (suite: string): boolean => DEBIAN_SUITE.test(suite) || (suite !== '' && suite === field('VERSION_CODENAME'));

  const apt = join(root, 'etc/apt');
  const names = (await readdir(join(apt, 'sources.list.d')).catch(() => [])).filter((name) => /^[\w.-]+\.(list|sources)$/.test(name));
  const files = ['sources.list', ...names.toSorted().map((name) => join('sources.list.d', name))];
  const entries = (await Promise.all(files.map(async (file) => parseSources(file, await textOf(join(apt, file)))))).flat();
  const candidates: { url: URL; updates: boolean }[] = [];
  for (const entry of entries) {
    const { suites, components, signedBy } = entry;
    const updates = suites.some((suite) => suite.endsWith('-updates') && isSuite(suite.slice(0, -'-updates'.length)));
    const isOthers = signedBy !== '' && !/(?:^|\/)debian-archive[^/]*$/.test(signedBy);
    if (!components.includes('main') || !(updates || (suites.some(isSuite) && !isOthers))) continue;
    const url = await usableUrl(entry, root);
    if (url !== undefined) candidates.push({ url, updates });
  }
  const found = candidates.find(({ updates }) => updates) ?? candidates.find(({ url }) => /\/debian\/?$/.test(url.pathname));
  return found === undefined ? undefined : trimUrl(found.url.href);
}

/**
 * The mirror of hosts that configure none. kernel.org has mirrored Debian for decades, keeps `/debian-security` beside `/debian`
 * (both are listed on https://mirrors.kernel.org) and supports https. Its content is checked against Debian's signatures and pinned digests.
 */
export const DEFAULT_MIRROR = 'https://mirrors.kernel.org/debian';

/** An http(s) URL from the environment; undefined if the variable is unset or empty. */
function urlFrom(variable: string): string | undefined {
  const text = envOf(variable);
  if (text === undefined) return undefined;
  if (!/^https?:\/\//.test(text) || !URL.canParse(text))
    throw new UserError(`${variable}: '${text}' is not a valid http or https URL`, { next: `set it to a URL such as ${DEFAULT_MIRROR}` });
  return trimUrl(text);
}

/** A Debian mirror: FLATCAR_EXT_DEBIAN_MIRROR, else apt's on a Debian host, else a public one. `root` is the root folder of the host. */
export async function debianMirror(root = '/'): Promise<string> {
  return urlFrom('FLATCAR_EXT_DEBIAN_MIRROR') ?? (await mirrorOfHost(root)) ?? DEFAULT_MIRROR;
}

/** Debian's domain: its snapshot archive keeps every package that Debian ever published (wiki.debian.org/SnapshotDebianOrg). */
const DEBIAN = 'debian.org';

/** The snapshot archive: FLATCAR_EXT_DEBIAN_SNAPSHOT, else Debian's own. Mirrors have none; an index could name one (`Snapshots:`), but Debian's do not. */
export function snapshotArchive(): string {
  return urlFrom('FLATCAR_EXT_DEBIAN_SNAPSHOT') ?? `https://snapshot.${DEBIAN}/archive/debian`;
}

/** A timestamp as the snapshot archive writes it: `20261121T091544Z`. */
export function snapshotStamp(date: Date): string {
  return `${date.toISOString().slice(0, 19).replaceAll(/[-:]/g, '')}Z`;
}
