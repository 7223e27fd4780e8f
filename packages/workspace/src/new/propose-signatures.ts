import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import {
  httpGet,
  HttpStatusError,
  messageOf,
  UserError,
  workflowOf,
  hasCode,
  type Signature,
  type SigstoreSignature,
} from '@flatcar/core/engine';
import type { TrustMaterial } from '@sigstore/verify';
import { attestationsOf, MOST_DOCUMENT, signerOf, trustMaterial, type Signer, type UpstreamContext } from '@flatcar/upstream';
import type { AssetProposal } from './propose-assets.ts';

/** A signer, as a definition should name it for every version, or a string with the reason why none can be proposed. */
function proposedSigner(found: Signer, version: string, fileUrl: string): Omit<SigstoreSignature, 'kind' | 'bundle'> | string {
  const { issuer, identity, source, ref } = found;
  const anyVersion = (text: string): string => text.replaceAll(version, '{version}');
  const workflow = workflowOf(identity);
  if (workflow === undefined) return { issuer, identity };
  const [, project] = /^(https:\/\/github\.com\/[^/]+\/[^/]+)\/releases\/download\//.exec(fileUrl) ?? [];
  if (project !== undefined && source?.toLowerCase() !== project.toLowerCase())
    return `it was signed by a run of ${source ?? 'an unknown repository'}, but the file belongs to ${project}`;
  if (ref === undefined || !(ref.startsWith('refs/heads/') || ref.includes(version)))
    return `it was signed for ${ref ?? 'an unknown ref'}, which does not name version ${version}`;
  const at = identity.slice(0, identity.length - workflow.ref.length);
  return source === workflow.repository && workflow.ref === ref
    ? { issuer, identity: at + anyVersion(ref) }
    : { issuer, identity: `${at}*`, source, ref: anyVersion(ref) };
}

/**
 * Signatures that a definition may require: who signed is read from verified sigstore bundles beside the file, or from GitHub's attestations.
 * `trust` is the public sigstore by default. Notes report what cannot be proposed, such as PGP signatures, whose keys are unknown.
 */
export async function proposeSignatures(
  files: AssetProposal['signatures'],
  file: { readonly url: string; readonly path: string; readonly sha256: string; readonly version: string },
  checksumUrl: string | undefined,
  context: UpstreamContext,
  trust?: TrustMaterial,
): Promise<{ signatures: Signature[]; notes: string[] }> {
  const signatures: Signature[] = [];
  const notes: string[] = [];
  trust ??= await trustMaterial();
  for (const { kind, of, url } of files) {
    const where = url.replace('{url}', file.url).replace('{checksum}', checksumUrl ?? '');
    if (kind !== 'sigstore') {
      notes.push(`${where} looks like a signature: add the keys to the package, and signature: { kind: 'pgp', … } to extension.ts`);
      continue;
    }
    if (signatures.some((one) => one.of === (of === 'file' ? undefined : of))) continue; // one bundle is enough
    const bytes = of === 'file' ? await readFile(file.path) : (await httpGet(checksumUrl ?? '', { ...context, max: MOST_DOCUMENT })).bytes;
    const artifact = { bytes, sha256: createHash('sha256').update(bytes).digest('hex') };
    try {
      const found = signerOf((await httpGet(where, { ...context, max: MOST_DOCUMENT })).bytes.toString('utf8'), artifact, trust, where);
      const signer = proposedSigner(found, file.version, file.url);
      if (typeof signer === 'string') notes.push(`${where} is not used: ${signer}`);
      else signatures.push({ kind: 'sigstore', ...signer, of: of === 'file' ? undefined : of, bundle: url });
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      notes.push(`${where} looks like a sigstore bundle, but cannot be used: ${error.message}`);
    }
  }
  if (signatures.length > 0 || !file.url.startsWith('https://github.com/')) return { signatures, notes };
  try {
    const text = await attestationsOf(file.url, file.sha256, context);
    const artifact = { bytes: await readFile(file.path), sha256: file.sha256 };
    const signer = proposedSigner(signerOf(text, artifact, trust, file.url), file.version, file.url);
    if (typeof signer === 'string') notes.push(`GitHub's attestation of ${file.url} is not used: ${signer}`);
    else signatures.push({ kind: 'sigstore', ...signer, bundle: 'github' });
  } catch (error) {
    const isNone = error instanceof HttpStatusError || hasCode(error, 'no-attestation');
    if (!isNone) notes.push(`GitHub's attestations of ${file.url} are not used: ${messageOf(error)}`);
  }
  return { signatures, notes };
}
