import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  DigestError,
  fetchBlob,
  fetchNew,
  expandTemplate,
  hashFile,
  httpGet,
  locatorOf,
  releaseWords,
  UserError,
  type Arch,
  type Component,
  type PgpSignature,
  type ReleaseOrigin,
  type Signature,
  type SigstoreSignature,
} from '@flatcar/core/engine';
import { checksumOf } from './checksums.ts';
import { memoize, MOST_DOCUMENT, MOST_FILE, type UpstreamContext } from '../context.ts';
import { assetDigest, attestationsOf } from '../sources/github.ts';
import { verifyClearsigned, verifyDetached, type Signers } from './openpgp.ts';
import { formatProof } from './proof.ts';
import { trustMaterial, verifyBundles, verifyPair, type Artifact } from './sigstore.ts';

/** A file of upstream in the store, checked by everything that upstream publishes about it. */
export interface VerifiedFile {
  readonly url: string;
  readonly path: string;
  readonly sha256: string;
  readonly size: number;
  readonly proof: string;
}

/** One file that is checked: where it stands, and how to fill in the URLs of what stands beside it. */
interface Subject {
  readonly url: string;
  /** Folder of the lock, where key files stand. */
  readonly dir: string;
  readonly words: Readonly<Record<string, string>>;
  readonly context: UpstreamContext;
}

const beside = ({ url, words }: Subject, template: string): string => new URL(expandTemplate(template, words), url).href;

function get(subject: Subject, template: string): Promise<Buffer> {
  const url = beside(subject, template);
  return memoize(subject.context, url, async () => (await httpGet(url, { ...subject.context, max: MOST_DOCUMENT })).bytes);
}

async function signersOf({ keys, fingerprints }: PgpSignature, dir: string): Promise<Signers> {
  const where = join(dir, keys);
  const content = await readFile(where).catch((cause: unknown) => {
    throw new UserError('the key file is missing', { where, next: 'put the public keys of upstream there', cause });
  });
  return { keys: content, fingerprints, where };
}

/** Checks one sigstore signature and says who made it. */
async function checkSigstore(signature: SigstoreSignature, artifact: Artifact, subject: Subject): Promise<string> {
  const { context } = subject;
  const fill = (text: string | undefined): string | undefined => (text === undefined ? undefined : expandTemplate(text, subject.words));
  const identity = expandTemplate(signature.identity, subject.words);
  const { issuer, source } = signature;
  const signer = { issuer, identity, source, ref: fill(signature.ref) };
  const trust = await trustMaterial(signature.trustedRoot === undefined ? undefined : join(subject.dir, signature.trustedRoot));
  if (signature.bundle !== undefined) {
    const isGithub = signature.bundle === 'github';
    const where = isGithub ? subject.url : beside(subject, signature.bundle);
    const text = isGithub
      ? await attestationsOf(subject.url, artifact.sha256, context)
      : (await get(subject, signature.bundle)).toString('utf8');
    verifyBundles(text, artifact, signer, trust, where);
  } else if (signature.signature !== undefined && signature.certificate !== undefined) {
    const files = {
      signature: (await get(subject, signature.signature)).toString('utf8'),
      certificate: (await get(subject, signature.certificate)).toString('utf8'),
    };
    await verifyPair(files, artifact, signer, trust, { ...context, where: beside(subject, signature.signature) });
  } else {
    throw new UserError('a sigstore signature needs `bundle`, or `signature` and `certificate`', { where: subject.url });
  }
  // The ref of the workflow that really signed stands in the certificate; the proof has what was asked for.
  const run = [source === undefined ? '' : ` for ${source}`, signer.ref === undefined ? '' : ` at ${signer.ref}`].join('');
  return `${identity}${run} (sigstore)`;
}

/** Checks one signature over some bytes and says who made it. */
async function check(signature: Signature, artifact: Artifact, subject: Subject): Promise<string> {
  if (signature.kind === 'sigstore') return checkSigstore(signature, artifact, subject);
  if (signature.url === undefined) throw new UserError('a PGP signature of a file needs its `url`', { where: subject.url });
  const signers = await signersOf(signature, subject.dir);
  const by = await verifyDetached(artifact.bytes, await get(subject, signature.url), signers, beside(subject, signature.url));
  return `PGP ${by}`;
}

const artifactOf = (bytes: Buffer): Artifact => ({ bytes, sha256: createHash('sha256').update(bytes).digest('hex') });

interface Checksum {
  readonly algorithm: 'sha256' | 'sha512';
  readonly hash: string;
  /** For the proof: `sha256 list`. */
  readonly kind: string;
  /** Who signed the checksums. */
  readonly signers: readonly string[];
}

/** What upstream says the file's hash is, with the signatures over that checked. */
async function readChecksum(template: string, signatures: readonly Signature[], subject: Subject): Promise<Checksum> {
  if (template === 'github')
    return { algorithm: 'sha256', hash: await assetDigest(subject.url, subject.context), kind: 'GitHub asset digest', signers: [] };
  const where = beside(subject, template);
  const bytes = await get(subject, template);
  let text = bytes.toString('utf8');
  const isClearsigned = /^-----BEGIN PGP SIGNED MESSAGE-----/m.test(text);
  const signers: string[] = [];
  for (const signature of signatures) {
    if (signature.kind === 'pgp' && signature.url === undefined) {
      const signed = await verifyClearsigned(text, await signersOf(signature, subject.dir), where);
      signers.push(`PGP ${signed.by}`);
      text = signed.text;
    } else signers.push(await check(signature, artifactOf(bytes), { ...subject, url: where }));
  }
  if (isClearsigned && signers.length === 0)
    throw new UserError('the checksums are signed, and the definition does not say by whom', {
      where,
      next: "add the key file to the extension, and signature: { kind: 'pgp', of: 'checksum', keys, fingerprints }",
    });
  const { algorithm, hash, form } = checksumOf(text, subject.words['file'] ?? '', where);
  return { algorithm, hash, kind: `${algorithm} ${form}`, signers };
}

/** The file, from the store when its hash is known and there. */
async function fetchFile(url: string, checksum: Checksum | undefined, context: UpstreamContext): Promise<{ path: string; sha256: string }> {
  if (checksum?.algorithm !== 'sha256') return fetchNew(context.store, url, { ...context, max: MOST_FILE });
  const path = await fetchBlob(context.store, { url, sha256: checksum.hash }, context).catch((error: unknown) => {
    if (!(error instanceof DigestError)) throw error;
    throw new UserError(`the file has not the hash that upstream publishes (${checksum.kind}): ${error.message}`, {
      where: url,
      next: 'nothing was kept: upstream is in the middle of a release, or something on the way changed the file',
    });
  });
  return { path, sha256: checksum.hash };
}

/**
 * Fetches upstream's file for an architecture into the store and checks everything that the definition says upstream publishes.
 * Throws when anything is missing or wrong; UnreachableError when a host does not answer.
 */
export async function fetchVerified(
  origin: ReleaseOrigin,
  component: Component,
  arch: Arch,
  dir: string,
  context: UpstreamContext,
): Promise<VerifiedFile> {
  const url = locatorOf(origin, component, arch) ?? '';
  const file = decodeURIComponent(new URL(url).pathname.split('/').at(-1) ?? '');
  const base = { ...releaseWords(origin, component, arch), url, file };
  const template = origin.checksum === 'none' ? undefined : origin.checksum;
  const words = {
    ...base,
    ...(template === undefined || template === 'github' ? {} : { checksum: new URL(expandTemplate(template, base), url).href }),
  };
  const subject: Subject = { url, dir, words, context };
  const signatures = origin.signature === undefined ? [] : [origin.signature].flat();
  const ofChecksum = signatures.filter((one) => one.of === 'checksum');
  if (ofChecksum.length > 0 && words.checksum === undefined)
    throw new UserError('there are no checksums that could be signed', { where: url, next: 'add `checksum` to the definition' });

  const checksum = template === undefined ? undefined : await readChecksum(template, ofChecksum, subject);
  const { path, sha256 } = await fetchFile(url, checksum, context);
  if (checksum?.algorithm === 'sha512') {
    const actual = await hashFile(path, 'sha512');
    if (actual !== checksum.hash)
      throw new UserError(
        `the file has not the hash that upstream publishes (${checksum.kind}): expected ${checksum.hash}, got ${actual}`,
        {
          where: url,
          next: 'do not pin this: upstream is in the middle of a release, or something on the way changed the file',
        },
      );
  }
  const ofFile = signatures.filter((one) => one.of !== 'checksum');
  const signers: string[] = [];
  if (ofFile.length > 0) {
    const artifact = { bytes: await readFile(path), sha256 };
    for (const signature of ofFile) signers.push(await check(signature, artifact, subject));
  }
  const { size } = await stat(path);
  return { url, path, sha256, size, proof: formatProof(checksum?.kind, checksum?.signers.join(', ') || undefined, signers) };
}
