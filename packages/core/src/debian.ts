import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { request } from 'undici';
import { archWords } from './arch.ts';
import { messageOf, UserError } from './errors.ts';
import { exec } from './exec.ts';
import { fetchBlob, UnreachableError } from './fetch.ts';
import type { Store } from './store.ts';
import type { Arch, Report } from './types.ts';

/** A binary package as an index of the archive has it. */
export interface DebianPackage {
  readonly name: string;
  readonly version: string;
  /** Path below the mirror: `pool/main/s/…deb`. */
  readonly path: string;
  readonly sha256: string;
  /** In bytes. */
  readonly size: number;
}

/** Where packages come from. */
export interface Archive {
  /** Base URL of a mirror; debianMirror() unless said. */
  readonly mirror?: string;
  /** Base URL of a snapshot archive, to which `/<timestamp>/<path>` is appended. */
  readonly snapshot?: string;
  /** OpenPGP keys that may sign the index; Debian's own unless said. */
  readonly keyring?: string;
}

const trim = (url: string): string => url.replace(/\/+$/, '');

/** The first Debian mirror in apt's own configuration (deb822 `URIs:` or one-line `deb URL suite`). */
async function mirrorOfHost(root = '/etc/apt'): Promise<string | undefined> {
  const names = await readdir(join(root, 'sources.list.d')).catch(() => []);
  const files = [join(root, 'sources.list'), ...names.toSorted().map((name) => join(root, 'sources.list.d', name))];
  for (const file of files) {
    const text = await readFile(file, 'utf8').catch(() => '');
    for (const [, url] of text.matchAll(/^(?:URIs:|deb\s+(?:\[[^\]]*\]\s+)?)\s*(https?:\/\/\S+)/gm)) {
      if (url !== undefined && /\/debian\/?$/.test(url)) return trim(url);
    }
  }
  return undefined;
}

/** debootstrap's own default, for hosts that are not Debian but can make one. */
async function mirrorOfDebootstrap(): Promise<string | undefined> {
  const text = await readFile('/usr/share/debootstrap/scripts/sid', 'utf8').catch(() => '');
  const common = await readFile('/usr/share/debootstrap/scripts/debian-common', 'utf8').catch(() => '');
  const url = /default_mirror\s+(https?:\/\/\S+)/.exec(`${text}\n${common}`)?.[1];
  return url === undefined ? undefined : trim(url);
}

/**
 * A Debian mirror: FLATCAR_EXT_DEBIAN_MIRROR, else what the host's apt uses, else debootstrap's default.
 * No mirror is named here: a mirror is the operator's choice.
 */
export async function debianMirror(): Promise<string> {
  const mirror = process.env['FLATCAR_EXT_DEBIAN_MIRROR'] || (await mirrorOfHost()) || (await mirrorOfDebootstrap());
  if (mirror === undefined) {
    throw new UserError('no Debian mirror is known on this host', {
      next: 'set FLATCAR_EXT_DEBIAN_MIRROR to one, or install debootstrap, whose default is taken',
    });
  }
  return trim(mirror);
}

/** The snapshot archive beside a mirror: FLATCAR_EXT_DEBIAN_SNAPSHOT, else `snapshot.` in the mirror's own domain. */
export function snapshotOf(mirror: string): string {
  const set = process.env['FLATCAR_EXT_DEBIAN_SNAPSHOT'];
  if (set) return trim(set);
  const { hostname, pathname } = new URL(mirror);
  return `https://snapshot.${hostname.split('.').slice(-2).join('.')}/archive${trim(pathname)}`;
}

async function get(url: string): Promise<Buffer> {
  try {
    const { statusCode, body } = await request(url, { headersTimeout: 30_000, bodyTimeout: 60_000 });
    const bytes = Buffer.from(await body.arrayBuffer());
    if (statusCode !== 200)
      throw new UserError(`the mirror answered ${statusCode}`, { where: url, next: 'try another mirror (FLATCAR_EXT_DEBIAN_MIRROR)' });
    return bytes;
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    throw new UnreachableError(`the mirror cannot be reached: ${messageOf(cause)}`, {
      where: url,
      next: 'try another mirror (FLATCAR_EXT_DEBIAN_MIRROR)',
      cause,
    });
  }
}

/** The signed text of a suite's InRelease; an expired Valid-Until is a notice, since the pins decide. */
async function readInRelease(url: string, keyring: string | undefined, report: Report): Promise<string> {
  const openpgp = await import('openpgp');
  const file = keyring ?? new URL('data/debian-archive-keyring.pgp', import.meta.url);
  const verificationKeys = await openpgp.readKeys({ binaryKeys: new Uint8Array(await readFile(file)) });
  const message = await openpgp.readCleartextMessage({ cleartextMessage: (await get(url)).toString() });
  const { signatures, data } = await openpgp.verify({ message, verificationKeys });
  const results = await Promise.allSettled(signatures.map(({ verified }) => verified));
  if (!results.some(({ status }) => status === 'fulfilled')) {
    throw new UserError('the signature of the package index is not from a known Debian key', {
      where: url,
      next: 'do not use this mirror; after a key change refresh packages/core/src/data/debian-archive-keyring.pgp',
    });
  }
  const until = /^Valid-Until: (.*)$/m.exec(data)?.[1];
  if (until !== undefined && Date.parse(until) < Date.now())
    report({ type: 'notice', text: `the index ${url} expired on ${until}; the mirror may be stale` });
  return data;
}

/** Reads a Packages index: paragraphs of `Key: value`, folded lines begin with a space (deb822(5)). */
export function parsePackages(text: string): (DebianPackage & { readonly fields: ReadonlyMap<string, string> })[] {
  return text.split(/\n\n+/).flatMap((paragraph) => {
    const fields = new Map<string, string>();
    for (const [, key, value] of paragraph.matchAll(/^([A-Za-z0-9-]+):[ \t]*(.*(?:\n[ \t].*)*)/gm)) fields.set(key ?? '', value ?? '');
    const [name, version, path, sha256] = ['Package', 'Version', 'Filename', 'SHA256'].map((key) => fields.get(key));
    if (name === undefined || version === undefined || path === undefined || sha256 === undefined) return [];
    return [{ name, version, path, sha256, size: Number(fields.get('Size')), fields }];
  });
}

/** All packages of a suite's `main` for an architecture, from its signed index. */
export async function readSuite(
  store: Store,
  suite: string,
  arch: Arch,
  report: Report,
  archive: Archive = {},
): Promise<ReturnType<typeof parsePackages>> {
  const mirror = archive.mirror ?? (await debianMirror());
  const inRelease = await readInRelease(`${mirror}/dists/${suite}/InRelease`, archive.keyring, report);
  const name = `main/binary-${archWords(arch).debian}/Packages.gz`;
  const line = [
    ...(inRelease
      .split(/^SHA256:$/m)
      .at(-1)
      ?.matchAll(/^ ([0-9a-f]{64}) +(\d+) (\S+)$/gm) ?? []),
  ].find((match) => match[3] === name);
  const [, sha256, size] = line ?? [];
  if (sha256 === undefined) throw new UserError(`the index of ${suite} lists no ${name}`, { where: mirror });
  const bytes = await get(`${mirror}/dists/${suite}/main/binary-${archWords(arch).debian}/by-hash/SHA256/${sha256}`);
  if (createHash('sha256').update(bytes).digest('hex') !== sha256 || bytes.length !== Number(size))
    throw new UserError(`${name} is not what the signed index says`, { where: mirror });
  const { gunzipSync } = await import('node:zlib');
  return parsePackages(gunzipSync(bytes).toString());
}

/** A package's bytes: what they turned out to be when the pinned ones had left every archive. */
export interface FetchedPackage {
  readonly file: string;
  readonly package: DebianPackage;
  readonly status: string;
}

/**
 * Fetches a pinned package: from the mirror, then the snapshot archive. When it has left both, the suite's current
 * version stands in, with a notice and a status that no published image may have.
 */
export async function fetchPackage(
  store: Store,
  pin: DebianPackage,
  at: { suite: string; snapshot: string; arch: Arch },
  report: Report,
  archive: Archive = {},
): Promise<FetchedPackage> {
  const there = await store.blob(pin.sha256);
  if (there !== undefined) return { file: there, package: pin, status: 'pinned' };
  const mirror = archive.mirror ?? (await debianMirror());
  const failures: unknown[] = [];
  for (const base of [mirror, `${archive.snapshot ?? snapshotOf(mirror)}/${at.snapshot}`]) {
    try {
      const file = await fetchBlob(store, { url: `${base}/${pin.path}`, sha256: pin.sha256, size: pin.size }, { report, attempts: 3 });
      return { file, package: pin, status: 'pinned' };
    } catch (error) {
      // Wrong bytes are never a reason to take others.
      if (error instanceof UserError && error.message.startsWith('wrong digest')) throw error;
      failures.push(error);
    }
  }
  const current = (await readSuite(store, at.suite, at.arch, report, archive)).find(({ name }) => name === pin.name);
  if (current === undefined)
    throw new UserError(
      `package ${pin.name} ${pin.version} has left the archive, and ${at.suite} has no other: ${failures.map(messageOf).join('; ')}`,
      { where: mirror, next: 'run scripts/pin-tools.ts' },
    );
  const status = `unpinned: ${pin.name} ${pin.version} has left the archive, ${current.version} stands in`;
  report({ type: 'notice', text: `${status}. Images made with it are not for publishing; re-pin with scripts/pin-tools.ts` });
  const { fields: _, ...plain } = current;
  const file = await fetchBlob(store, { url: `${mirror}/${current.path}`, sha256: current.sha256, size: current.size }, { report });
  return { file, package: plain, status };
}

/** Unpacks a package's files. dpkg-deb is on every Debian and Ubuntu, and knows each compression that packages have. */
export async function unpackPackage(file: string, dest: string): Promise<void> {
  await mkdir(dest, { recursive: true });
  await exec('dpkg-deb', ['--extract', file, dest], { next: 'install dpkg' });
}
