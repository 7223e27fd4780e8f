import { basename } from 'node:path';
import { ARCHES, archWords, expandTemplate, fetchNew, isNetworkFailure, UserError, type Arch } from '@flatcar/core/engine';
import { MOST_FILE, type UpstreamContext } from '@flatcar/upstream';
import { inspectFile, type Layout } from './inspect-file.ts';
import type { Plan } from './plan.ts';
import type { Prompter } from './prompter.ts';
import { generalizeUrl, proposeAssets, type AssetProposal, type Listing } from './propose-assets.ts';
import { proposeSignatures } from './propose-signatures.ts';
import type { UpstreamRequest } from './request.ts';

/** Upstream's own file, and what it contains. */
export interface FileFound {
  readonly file: NonNullable<Plan['file']>;
  readonly programs?: readonly string[] | undefined;
  readonly license?: string | undefined;
}

type Proposal = Omit<AssetProposal, 'files'>;

const urlOf = (pattern: string, github: string | undefined, prefix: string): string =>
  /^https?:/.test(pattern) ? pattern : `https://github.com/${github ?? ''}/releases/download/${prefix}{version}/${pattern}`;

/** The file that the request names. */
function givenFile({ file, checksum, arch }: UpstreamRequest, version: string): Proposal | undefined {
  if (file === undefined) return undefined;
  if ('url' in file) return { asset: generalizeUrl(file.url, version), checksum: checksum ?? 'none', signatures: [], arch };
  return { asset: file.asset, checksum: checksum ?? 'github', signatures: [], arch };
}

/** The file that is chosen from a release; undefined if it has none for both architectures, but there is source to compile. */
async function chosenFile(request: UpstreamRequest, listing: Listing, prompter: Prompter): Promise<Proposal | undefined> {
  const { name, github, checksum, source } = request;
  const proposals = proposeAssets(listing, name);
  const [first] = proposals;
  if (first === undefined) {
    const names = listing.assets.map((one) => one.name).slice(0, 12);
    if (source === undefined)
      throw new UserError(`the release ${listing.tag_name} has no Linux programs for both architectures`, {
        where: `https://github.com/${github ?? ''}/releases`,
        next: `pass --asset and --arch-words, or --go or --cargo; the release has ${names.join(', ') || 'no files'}`,
      });
    prompter.note('upstream has no Linux programs for both architectures: the extension is only compiled from source');
    return undefined;
  }
  const options = proposals.map((value) => ({ value, label: `${value.files['x86-64']} (checked by: ${value.checksum})` }));
  const chosen = proposals.length === 1 ? first : await prompter.choose('Which files?', options);
  return checksum === undefined ? chosen : { ...chosen, checksum };
}

/** A file of one architecture that was fetched and inspected. */
interface Inspected {
  readonly url: string;
  readonly path: string;
  readonly sha256: string;
  readonly layout: Layout;
}

async function inspectArch(
  { github, programs, name }: UpstreamRequest,
  proposal: Proposal,
  release: { readonly version: string; readonly prefix: string },
  arch: Arch,
  context: UpstreamContext,
): Promise<Inspected> {
  const { go: goarch, machine } = archWords(arch);
  const words = { version: release.version, arch: proposal.arch?.[arch] ?? goarch, goarch, machine };
  const url = expandTemplate(urlOf(proposal.asset, github, release.prefix), words);
  const { path, sha256 } = await fetchNew(context.store, url, { ...context, max: MOST_FILE }).catch((error: unknown) => {
    if (!isNetworkFailure(error)) throw error;
    throw new UserError(`the file cannot be inspected: ${error.message}`, {
      where: error.where,
      next: 'if its digests are known from elsewhere, pass --sha256 x86-64=HASH --sha256 arm64=HASH --proof WHERE-FROM',
      cause: error,
    });
  });
  const fileName = decodeURIComponent(basename(new URL(url).pathname));
  return { url, path, sha256, layout: await inspectFile(path, fileName, programs?.[0] ?? name, arch, context) };
}

/** URL of the checksum file of the x86-64 file; undefined if there is no such file. */
function checksumUrlOf(checksum: string, url: string, version: string): string | undefined {
  if (['github', 'none'].includes(checksum)) return undefined;
  const words = { url, file: basename(url), version, arch: 'amd64', goarch: 'amd64', machine: 'x86_64' };
  return new URL(expandTemplate(checksum, words), url).href;
}

/**
 * Upstream's own file, as the request names it or as it is chosen from a release; undefined if there is none. Both architectures' files are
 * inspected, because they must have the same programs. Checksums and signatures are checked later, by `pin`.
 */
export async function findFile(
  request: UpstreamRequest,
  listing: Listing | undefined,
  release: { readonly version: string; readonly prefix: string },
  prompter: Prompter,
  context: UpstreamContext,
): Promise<FileFound | undefined> {
  const proposal =
    givenFile(request, release.version) ?? (listing === undefined ? undefined : await chosenFile(request, listing, prompter));
  if (proposal === undefined) return undefined;
  const file = { pattern: proposal.asset, checksum: proposal.checksum, signatures: [], arch: proposal.arch };
  if (request.isKnown) return { file };
  const [x86, arm] = await Promise.all(ARCHES.map((arch) => inspectArch(request, proposal, release, arch, context)));
  if (x86 === undefined || arm === undefined) throw new Error('two architectures');
  const only = x86.layout.programs.filter((one) => !arm.layout.programs.includes(one));
  if (only.length > 0) prompter.note(`only one architecture has ${only.join(', ')}`);
  if (x86.layout.dynamic.length > 0)
    prompter.note(`${x86.layout.dynamic.join(', ')}: needs libraries of the host; lint reports whether a portable image can have it`);
  const checksumUrl = checksumUrlOf(file.checksum, x86.url, release.version);
  const { signatures, notes } = await proposeSignatures(proposal.signatures, { ...x86, version: release.version }, checksumUrl, context);
  for (const note of notes) prompter.note(note);
  return {
    file: { ...file, signatures },
    programs: x86.layout.programs.filter((one) => arm.layout.programs.includes(one)),
    license: x86.layout.license,
  };
}
