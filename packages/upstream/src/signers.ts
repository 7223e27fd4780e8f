import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { AnswerError, UserError, type Signature } from '@flatcar/core';
import type { UpstreamContext } from './context.ts';
import { attestationsOf } from './github.ts';
import { ask } from './http.ts';
import type { AssetProposal } from './propose.ts';
import { signerOf, trustMaterial } from './sigstore.ts';

/** A workflow at any tag: `…/release.yml@refs/tags/v1.2.3` becomes `…/release.yml@refs/tags/*`. */
const anyTag = (identity: string): string => identity.replace(/@refs\/tags\/.*$/, '@refs/tags/*');

/**
 * What signs a file of upstream, as a definition may ask for it: sigstore bundles beside it and GitHub's attestations are verified and
 * say who signed. What cannot be proposed (PGP and others, whose keys are not known) comes as notes.
 */
export async function proposeSignatures(
  proposal: AssetProposal,
  file: { readonly url: string; readonly path: string; readonly sha256: string },
  checksumUrl: string | undefined,
  context: UpstreamContext,
): Promise<{ signatures: Signature[]; notes: string[] }> {
  const signatures: Signature[] = [];
  const notes: string[] = [];
  const trust = await trustMaterial();
  for (const { kind, of, url } of proposal.signatures) {
    const where = url.replace('{url}', file.url).replace('{checksum}', checksumUrl ?? '');
    if (kind !== 'sigstore') {
      notes.push(`${where} looks like a signature: put the keys into the package, and signature: { kind: 'pgp', … } into extension.ts`);
      continue;
    }
    if (signatures.some((one) => one.of === (of === 'file' ? undefined : of))) continue; // a second bundle of the same says nothing new
    const bytes = of === 'file' ? await readFile(file.path) : (await ask(checksumUrl ?? '', context)).bytes;
    const artifact = { bytes, sha256: createHash('sha256').update(bytes).digest('hex') };
    try {
      const { issuer, identity } = signerOf((await ask(where, context)).bytes.toString('utf8'), artifact, trust, where);
      signatures.push({ kind: 'sigstore', issuer, identity: anyTag(identity), ...(of === 'file' ? {} : { of }), bundle: url });
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      notes.push(`${where} looks like a sigstore bundle, but: ${error.message}`);
    }
  }
  if (signatures.length > 0 || !file.url.startsWith('https://github.com/')) return { signatures, notes };
  try {
    const text = await attestationsOf(file.url, file.sha256, context);
    const artifact = { bytes: await readFile(file.path), sha256: file.sha256 };
    const { issuer, identity } = signerOf(text, artifact, trust, file.url);
    signatures.push({ kind: 'sigstore', issuer, identity: anyTag(identity), bundle: 'github' });
  } catch (error) {
    const isNone = error instanceof AnswerError || (error instanceof UserError && /has no attestation/.test(error.message));
    if (!isNone)
      notes.push(`GitHub's attestations of ${file.url} were not taken: ${error instanceof Error ? error.message : String(error)}`);
  }
  return { signatures, notes };
}
