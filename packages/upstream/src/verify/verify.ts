import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  fetchBlob,
  fetchNew,
  expandTemplate,
  hashFile,
  httpGet,
  locatorOf,
  upstreamWords,
  UserError,
  hasCode,
  type Arch,
  type Component,
  type PgpSignature,
  type Proof,
  type ProofSigner,
  type UpstreamOrigin,
  type Signature,
  type SigstoreSignature,
} from '@flatcar/core/engine';
import { checksumOf, type PublishedChecksum } from './checksums.ts';
import { memoize, MOST_DOCUMENT, MOST_FILE, type UpstreamContext } from '../context.ts';
import { assetDigest, attestationsOf } from '../sources/github.ts';
import { verifyClearsigned, verifyDetached, type Signers } from './openpgp.ts';
import { trustMaterial, verifyBundles, verifyPair, type Artifact } from './sigstore.ts';

/** A file of upstream in the store, checked by everything that upstream publishes about it. */
export interface VerifiedFile {
  readonly url: string;
  readonly path: string;
  readonly sha256: string;
  readonly size: number;
  readonly proof: Proof;
}

/** One file that is checked. */
interface Subject {
  readonly url: string;
  /** Folder of the lock, which has the key files. */
  readonly dir: string;
  /** Words for the templates of the URLs beside the file. */
  readonly words: Readonly<Record<string, string>>;
  readonly context: UpstreamContext;
}

const urlBeside = ({ url, words }: Subject, template: string): string => new URL(expandTemplate(template, words), url).href;

function fetchBeside(subject: Subject, template: string): Promise<Buffer> {
  const url = urlBeside(subject, template);
  return memoize(subject.context, url, async () => (await httpGet(url, { ...subject.context, max: MOST_DOCUMENT })).bytes);
}

async function signersOf({ keys, fingerprints }: PgpSignature, dir: string): Promise<Signers> {
  const where = join(dir, keys);
  const content = await readFile(where).catch((cause: unknown) => {
    throw new UserError('the key file is missing', { where, next: 'save the public keys of upstream there', cause });
  });
  return { keys: content, fingerprints, where };
}

async function checkSigstore(signature: SigstoreSignature, artifact: Artifact, subject: Subject): Promise<ProofSigner> {
  const { context } = subject;
  const { issuer, source } = signature;
  const identity = expandTemplate(signature.identity, subject.words);
  const ref = signature.ref === undefined ? undefined : expandTemplate(signature.ref, subject.words);
  const signer = { issuer, identity, source, ref };
  const trust = await trustMaterial(signature.trustedRoot === undefined ? undefined : join(subject.dir, signature.trustedRoot));
  if (signature.bundle === 'github') {
    verifyBundles(await attestationsOf(subject.url, artifact.sha256, context), artifact, signer, trust, subject.url);
  } else if (signature.bundle !== undefined) {
    const text = (await fetchBeside(subject, signature.bundle)).toString('utf8');
    verifyBundles(text, artifact, signer, trust, urlBeside(subject, signature.bundle));
  } else if (signature.signature !== undefined && signature.certificate !== undefined) {
    const files = {
      signature: (await fetchBeside(subject, signature.signature)).toString('utf8'),
      certificate: (await fetchBeside(subject, signature.certificate)).toString('utf8'),
    };
    await verifyPair(files, artifact, signer, trust, { ...context, where: urlBeside(subject, signature.signature) });
  } else {
    throw new UserError('a sigstore signature needs `bundle`, or `signature` and `certificate`', { where: subject.url });
  }
  // The proof has what the definition asks for: for a prefix, the whole identity is in the certificate only.
  return { kind: 'sigstore', identity, source, ref };
}

/** Checks one signature of a file and returns who made it. */
async function checkSignature(signature: Signature, artifact: Artifact, subject: Subject): Promise<ProofSigner> {
  if (signature.kind === 'sigstore') return checkSigstore(signature, artifact, subject);
  if (signature.url === undefined) throw new UserError('a PGP signature of a file needs its `url`', { where: subject.url });
  const signers = await signersOf(signature, subject.dir);
  const bytes = await fetchBeside(subject, signature.url);
  return { kind: 'pgp', fingerprint: await verifyDetached(artifact.bytes, bytes, signers, urlBeside(subject, signature.url)) };
}

const artifactOf = (bytes: Buffer): Artifact => ({ bytes, sha256: createHash('sha256').update(bytes).digest('hex') });

/** The hash of a file, as upstream publishes it. */
interface Checksum extends Pick<PublishedChecksum, 'algorithm' | 'hash'> {
  /** For the proof. */
  readonly kind: NonNullable<(Proof & { kind: 'upstream' })['checksum']>;
  /** Who signed the checksum file. */
  readonly signers: readonly ProofSigner[];
}

/** The hash that upstream publishes for a file, after the signatures of the checksum file were checked. */
async function readChecksum(template: string, signatures: readonly Signature[], subject: Subject): Promise<Checksum> {
  if (template === 'github')
    return { algorithm: 'sha256', hash: await assetDigest(subject.url, subject.context), kind: 'GitHub asset digest', signers: [] };
  const where = urlBeside(subject, template);
  const bytes = await fetchBeside(subject, template);
  let text = bytes.toString('utf8');
  const isClearsigned = /^-----BEGIN PGP SIGNED MESSAGE-----/m.test(text);
  const signers: ProofSigner[] = [];
  for (const signature of signatures) {
    if (signature.kind === 'pgp' && signature.url === undefined) {
      const signed = await verifyClearsigned(text, await signersOf(signature, subject.dir), where);
      signers.push({ kind: 'pgp', fingerprint: signed.by });
      text = signed.text;
    } else signers.push(await checkSignature(signature, artifactOf(bytes), { ...subject, url: where }));
  }
  if (isClearsigned && signers.length === 0)
    throw new UserError('the checksums are signed, but the definition does not specify by whom', {
      where,
      next: "add the key file to the extension, and signature: { kind: 'pgp', of: 'checksum', keys, fingerprints } to the definition",
    });
  const { algorithm, hash, form } = checksumOf(text, subject.words['file'] ?? '', where);
  return { algorithm, hash, kind: `${algorithm} ${form}`, signers };
}

const mismatch = ({ kind }: Checksum, url: string, detail: string): UserError =>
  new UserError(`the file does not match the hash published upstream (${kind}): ${detail}`, {
    where: url,
    next: 'do not pin this: upstream is publishing a release right now, or the file was modified on the way',
  });

/** The file in the store, checked by its checksum: not fetched if the store has a file with that sha256. */
async function fetchFile(url: string, checksum: Checksum | undefined, context: UpstreamContext): Promise<{ path: string; sha256: string }> {
  if (checksum?.algorithm === 'sha256') {
    const path = await fetchBlob(context.store, { url, sha256: checksum.hash }, context).catch((error: unknown) => {
      throw hasCode(error, 'wrong-digest') ? mismatch(checksum, url, error.message) : error;
    });
    return { path, sha256: checksum.hash };
  }
  const fetched = await fetchNew(context.store, url, { ...context, max: MOST_FILE });
  const actual = checksum === undefined ? undefined : await hashFile(fetched.path, 'sha512');
  if (checksum !== undefined && actual !== checksum.hash)
    throw mismatch(checksum, url, `expected ${checksum.hash}, got ${actual ?? 'none'}`);
  return fetched;
}

/**
 * Fetches upstream's file for an architecture into the store and checks it by everything that the definition lists: checksums and signatures.
 * Throws a UserError if anything is missing or wrong, and an UnreachableError if a host does not answer.
 */
export async function fetchVerified(
  origin: UpstreamOrigin,
  component: Component,
  arch: Arch,
  dir: string,
  context: UpstreamContext,
): Promise<VerifiedFile> {
  const url = locatorOf(origin, component, arch) ?? '';
  const words: Record<string, string> = {
    ...upstreamWords(origin, component, arch),
    url,
    file: decodeURIComponent(basename(new URL(url).pathname)),
  };
  const template = origin.checksum === 'none' ? undefined : origin.checksum;
  if (template !== undefined && template !== 'github') words['checksum'] = new URL(expandTemplate(template, words), url).href;
  const subject: Subject = { url, dir, words, context };
  const signatures = origin.signature === undefined ? [] : [origin.signature].flat();
  const ofChecksum = signatures.filter((one) => one.of === 'checksum');
  if (ofChecksum.length > 0 && words['checksum'] === undefined)
    throw new UserError('the definition has a signature of checksums, but no checksum file', {
      where: url,
      next: 'add `checksum` to the definition',
    });

  const checksum = template === undefined ? undefined : await readChecksum(template, ofChecksum, subject);
  const { path, sha256 } = await fetchFile(url, checksum, context);
  const ofFile = signatures.filter((one) => one.of !== 'checksum');
  const signers: ProofSigner[] = [];
  if (ofFile.length > 0) {
    const artifact = { bytes: await readFile(path), sha256 };
    for (const signature of ofFile) signers.push(await checkSignature(signature, artifact, subject));
  }
  const proof: Proof = { kind: 'upstream', checksum: checksum?.kind, checksumSigners: checksum?.signers ?? [], signers };
  return { url, path, sha256, size: (await stat(path)).size, proof };
}
