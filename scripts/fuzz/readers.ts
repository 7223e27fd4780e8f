// All readers of files that others made, in one place: what to begin with, and how each is called.
import { createHash, createPrivateKey } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import {
  compareDebianVersions,
  compareVersions,
  embeddedModules,
  licenseNames,
  lockedCrates,
  parseManifest,
  parsePackages,
  parsePayload,
  parseReleaseFile,
  parseSources,
  parseSums,
  parseUnit,
  readAuditableCrates,
  readCopyright,
  readElf,
  readErofs,
  readGoBuildInfo,
  readImports,
  readPartitions,
  readPins,
  readSquashfs,
  signedText,
  sourceFileIn,
  unpack,
  verifyVerity,
} from '@flatcar/core/engine';
import { blockListBytes, parseBlockList } from '@flatcar/publish/deltas/block-list';
import { checkPayload } from '@flatcar/publish/formats/crau';
import { checkSignatures, readKeyring, readPublicKeys } from '@flatcar/publish/keys/openpgp';
import { parseExtensionIndex, parseIndex, parsePackages as parseUpdatePackages } from '@flatcar/publish/tree/schema';
import { readSums } from '@flatcar/upstream/pin/check-go';
import { indexedVersions } from '@flatcar/upstream/sources/cargo';
import { catalogueFrom } from '@flatcar/upstream/sources/flatcar-releases';
import { readLinks } from '@flatcar/upstream/sources/links';
import { checksumOf } from '@flatcar/upstream/verify/checksums';
import { verifyClearsigned, verifyDetached } from '@flatcar/upstream/verify/openpgp';
import { trustMaterial, verifyBundles } from '@flatcar/upstream/verify/sigstore';
import { readRecipe } from '@flatcar/workspace/bakery/recipe';
import { readListing } from '@flatcar/workspace/new/propose-assets';
import {
  diskImages,
  elfWith,
  erofsImages,
  filesOf,
  program,
  SIGNED,
  signatures,
  squashfsImages,
  stamped,
  updatePayloads,
  debs,
  tars,
  zips,
} from './seeds.ts';
import * as texts from './texts.ts';

/** Reads one input, which is in `file` as well; throws a UserError for a damaged one. */
type Read = (bytes: Buffer, file: string) => unknown;

/** A reader of files that others made. */
export interface Reader {
  /** What it reads, for --list. */
  readonly what: string;
  readonly format: 'binary' | 'text' | 'json';
  /** Inputs to begin with; what else the reader takes is written into the folder. */
  readonly prepare: (dir: string) => Promise<readonly (Buffer | string)[]>;
  /** Opens it in the worker, with the folder of prepare(). */
  readonly open: (dir: string) => Promise<Read> | Read;
  /** Words of the format. */
  readonly words?: readonly string[];
  /** Longest input in bytes; 256 KiB unless specified. */
  readonly most?: number;
  /** Makes checks pass that would refuse most mutations at once. */
  readonly repair?: (bytes: Buffer) => Buffer;
}

const text = (
  what: string,
  seeds: readonly string[] | (() => Promise<readonly (Buffer | string)[]>),
  read: (text: string) => unknown,
  words: readonly string[] = [],
): Reader => ({
  what,
  format: 'text',
  prepare: async () => (typeof seeds === 'function' ? seeds() : seeds),
  open: () => (bytes) => read(bytes.toString()),
  words,
  most: 1 << 20, // what grows with the square of its input shows in a second
});

const json = (
  what: string,
  seeds: readonly string[] | (() => Promise<readonly (Buffer | string)[]>),
  read: (text: string) => unknown,
): Reader => ({
  ...text(what, seeds, read),
  format: 'json',
});

const file = (what: string, prepare: Reader['prepare'], read: (file: string) => unknown, more: Partial<Reader> = {}): Reader => ({
  what,
  format: 'binary',
  prepare,
  open: () => (_, path) => read(path),
  ...more,
});

/** Without the checksum of its superblock, which few mutations would match. */
function withoutChecksum(bytes: Buffer): Buffer {
  if (bytes.length > 1040) bytes.writeUInt32LE((bytes.readUInt32LE(1032) & ~1) >>> 0, 1032);
  return bytes;
}

/** Headers of a tar with the checksums that they would have: few mutations match theirs. */
function withChecksums(bytes: Buffer): Buffer {
  for (let at = 0; at + 512 <= bytes.length; at += 512) {
    if (bytes.toString('latin1', at + 257, at + 262) !== 'ustar') continue;
    bytes.fill(0x20, at + 148, at + 156);
    const sum = bytes.subarray(at, at + 512).reduce((total, byte) => total + byte, 0);
    bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, at + 148, 'latin1');
  }
  return bytes;
}

/** Unpacking of archives that are called `name`; nothing may be left of one that is refused. */
const archive = (what: string, name: string, seeds: () => Buffer[], more: Partial<Reader> = {}): Reader => ({
  ...file(
    what,
    async () => seeds(),
    () => undefined,
    more,
  ),
  open: (dir) => async (_, path) => {
    const dest = join(dir, 'unpacked');
    try {
      await unpack(path, name, dest, { limits: { bytes: 16 << 20, entries: 2000 } });
    } catch (error) {
      if (existsSync(dest)) throw new Error('something is left of an archive that was refused', { cause: error });
      throw error;
    }
    await rm(dest, { recursive: true });
  },
});

const lines =
  (read: (one: string, other: string) => number): ((text: string) => void) =>
  (input) => {
    const all = input.split('\n').slice(0, 16);
    for (const one of all)
      for (const other of all)
        if (Math.sign(read(one, other)) + Math.sign(read(other, one)) !== 0)
          throw new Error(`the order of '${one}' and '${other}' depends on which comes first`);
  };

const keysOf = async (dir: string) => ({
  keys: await readFile(join(dir, 'keys.asc')),
  fingerprints: [await readFile(join(dir, 'fingerprint'), 'utf8')],
  where: 'keys.asc',
});
const artifact = { bytes: Buffer.from('a file'), sha256: createHash('sha256').update('a file').digest('hex') };

/** Readers by their names. */
export const READERS: Readonly<Record<string, Reader>> = {
  elf: file(
    'ELF programs and libraries',
    async () => [await program(), elfWith({ '.text': Buffer.alloc(16) }), ...(await texts.hostileElves())],
    async (path) => [await readElf(path), await readImports(path)],
    { most: 1 << 20 },
  ),
  buildinfo: file(
    'what Go and cargo auditable write into programs',
    async () => stamped(),
    async (path) => [await readGoBuildInfo(path), await readAuditableCrates(path)],
  ),
  modules: {
    ...file(
      'all modules in the programs of a tree',
      async () => stamped(),
      () => undefined,
    ),
    open: (dir) => async (bytes) => {
      await mkdir(join(dir, 'modules'), { recursive: true });
      await writeFile(join(dir, 'modules/program'), bytes);
      return embeddedModules({
        dir: join(dir, 'modules'),
        digest: '',
        entries: [{ path: 'program', type: 'file', mode: 0o755, size: bytes.length, component: '' }],
      });
    },
  },
  tar: archive('tars', 'a.tar', tars, { repair: withChecksums }),
  zstd: archive('tars in zstd frames', 'a.tar.zst', () => tars().map((tar) => zstdCompressSync(tar))),
  deb: archive('Debian packages', 'a.deb', debs),
  zip: archive('zip files', 'a.zip', zips),
  squashfs: file('squashfs images', squashfsImages, readSquashfs),
  erofs: file('erofs images', erofsImages, (path) => readErofs(path), { repair: withoutChecksum, most: 1 << 19 }),
  disk: file(
    'disk images: partitions, dm-verity and the erofs in them',
    diskImages,
    async (path) => {
      const [first] = await readPartitions(path);
      return [await verifyVerity(path, 'x86-64'), await readErofs(path, first?.offset)];
    },
    { most: 2 << 20 },
  ),
  crau: {
    ...file('update payloads', updatePayloads, () => undefined),
    open: async (dir) => {
      const key = createPrivateKey(await readFile(join(dir, 'update.pem')));
      return (_, path) => checkPayload(path, [key]);
    },
  },
  blocks: {
    what: 'block lists',
    format: 'binary',
    prepare: async () => {
      const records = [10, 5000, 70_000].map((offset) => ({ offset, bytes: Buffer.from(`bytes at ${offset}`) }));
      return [blockListBytes({ size: 100_000, records }), blockListBytes({ size: 0, records: [] })];
    },
    open: () => (bytes, path) => parseBlockList(bytes, path),
  },
  packages: text('Packages of a Debian archive', texts.PACKAGES, parsePackages, [
    'Package: ',
    'Depends: ',
    'Version: ',
    '\n\n',
    ' (>= 1)',
    ' | ',
  ]),
  sources: text('Sources of a Debian archive', texts.SOURCES, (input) => sourceFileIn(input, 'pool/main/t/tini/tini_0.19.0-1.dsc'), [
    'Directory: ',
    'Checksums-Sha256:',
    '\n\n',
  ]),
  'sources-list': text(
    "apt's source files",
    texts.SOURCES_LISTS,
    (input) => [parseSources('a.sources', input), parseSources('sources.list', input)],
    ['deb ', 'deb [', 'Types: deb', 'Signed-By: ', '#'],
  ),
  inrelease: {
    ...text('signed indexes of a Debian archive', [], () => undefined, ['-----BEGIN PGP SIGNATURE-----', 'Hash: SHA512', '\n\n']),
    prepare: async (dir) => (await signatures(dir)).clear,
    open: async (dir) => {
      const keys = await readFile(join(dir, 'keys.asc'), 'utf8');
      return (bytes) => signedText(bytes.toString(), keys, 'InRelease');
    },
    most: 1 << 18,
  },
  'debian-versions': text('versions of Debian packages', texts.VERSIONS, lines(compareDebianVersions), ['~', ':', '-', '+', '.']),
  versions: text('versions of images', texts.VERSIONS, lines(compareVersions), ['-', '.', '+']),
  copyright: text('copyright files of Debian packages', texts.COPYRIGHTS, (input) => [readCopyright(input), licenseNames(input)], [
    'License: ',
    'Files: ',
    ' and ',
    ' or ',
    ' with ',
    'GPL-2+',
    ', ',
  ]),
  sums: text('SHA256SUMS', texts.SUMS, (input) => parseSums(input, 'SHA256SUMS')),
  checksums: text("upstreams' lists of checksums", texts.CHECKSUMS, (input) => checksumOf(input, 'tool.tgz', 'SHA256SUMS'), [
    'SHA256 (',
    ') = ',
    ' *',
  ]),
  'release-file': text('release files', texts.RELEASE_FILES, parseReleaseFile),
  units: text('unit files', () => filesOf('extensions/extension-stager/files/usr/lib/systemd/system/extension-stager.service'), parseUnit, [
    '[Unit]',
    '[Service]',
    '\\\n',
    '#',
  ]),
  'cargo-lock': text(
    'Cargo.lock',
    () => filesOf('packages/testing/fixtures/origins/counter/Cargo.lock'),
    (input) => lockedCrates(input, 'Cargo.lock'),
    ['[[package]]', 'name = "', 'checksum = "', 'source = "git+'],
  ),
  'crate-index': text('the index of a crates registry', texts.CRATE_INDEX, (input) => indexedVersions(input, 'memchr', 'index')),
  'go-sum': text('go.sum', () => filesOf('packages/publish/test/butane/go.sum'), readSums),
  links: text('pages that list files', texts.PAGES, readLinks, ['href=', '<a ', '</a>', '>', '%zz']),
  pins: json(
    'pins.json',
    () => filesOf('extensions/yq/pins.json', 'extensions/ripgrep/pins.json'),
    (input) => readPins(input, 'pins.json'),
  ),
  manifest: json('manifests of images', texts.MANIFESTS, (input) => parseManifest(input, 'manifest.json')),
  payload: json('records of payloads', texts.PAYLOADS, (input) => parsePayload(input, 'payload.json')),
  index: json('index.json of a published tree', texts.INDEXES, (input) => parseIndex(input, 'index.json')),
  'extension-index': json('the index of an extension', texts.EXTENSION_INDEXES, (input) => parseExtensionIndex(input, 'index.json')),
  'update-packages': json('the list of update packages', texts.UPDATE_PACKAGES, (input) => parseUpdatePackages(input, 'packages.json')),
  releases: json("Flatcar's list of releases", texts.RELEASES, (input) => catalogueFrom(input, 'releases.json')),
  listing: json("GitHub's list of a release", texts.LISTINGS, (input) => readListing(input, 'listing.json')),
  recipe: text('recipes of a sysext-bakery', texts.RECIPES, (input) => readRecipe(input, ['v1.2.3'], 'create.sh'), [
    '$(',
    '${',
    '<<END',
    'if ',
    '; then',
    'case x in',
    ' && ',
    '|',
  ]),
  sigstore: {
    ...json(
      'sigstore bundles',
      () => filesOf('packages/upstream/test/fixtures/public.sigstore.json'),
      () => undefined,
    ),
    open: async () => {
      const trust = await trustMaterial();
      return (bytes) =>
        verifyBundles(
          bytes.toString(),
          artifact,
          { issuer: 'https://example.org', identity: 'https://example.org/*' },
          trust,
          'bundle.json',
        );
    },
  },
  'pgp-signature': {
    ...file(
      'OpenPGP signatures over a file',
      async (dir) => (await signatures(dir)).detached,
      () => undefined,
    ),
    open: async (dir) => {
      const [signers, known] = [await keysOf(dir), await readPublicKeys(await readFile(join(dir, 'keys.asc'), 'utf8'), 'keys.asc')];
      return async (bytes) => [await checkSignatures(SIGNED, bytes, known), await verifyDetached(SIGNED, bytes, signers, 'signature')];
    },
  },
  'pgp-message': {
    ...text('OpenPGP signed texts', [], () => undefined, ['-----BEGIN PGP SIGNED MESSAGE-----', 'Hash: SHA256', '- -']),
    prepare: async (dir) => (await signatures(dir)).clear,
    open: async (dir) => {
      const signers = await keysOf(dir);
      return (bytes) => verifyClearsigned(bytes.toString(), signers, 'message');
    },
    most: 1 << 18,
  },
  'pgp-keys': {
    ...file(
      'OpenPGP public keys and keyrings',
      async (dir) => Object.values(await signatures(dir)).flat(),
      () => undefined,
    ),
    open: () => async (bytes) => [
      await readPublicKeys(bytes.toString(), 'keys.asc').catch(ignoreUserError),
      await readKeyring(bytes, 'keyring'),
    ],
    words: ['-----BEGIN PGP PUBLIC KEY BLOCK-----', '-----END PGP PUBLIC KEY BLOCK-----'],
  },
};

function ignoreUserError(error: unknown): undefined {
  if ((error as Error).name !== 'UserError') throw error;
}
