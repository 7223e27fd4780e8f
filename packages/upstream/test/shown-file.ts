import { formatProof } from '@flatcar/core/engine';
import type { VerifiedFile } from '../src/verify/verify.ts';

/** A verified file with its proof as text, as locks have it. */
export type ShownFile = Omit<VerifiedFile, 'proof'> & { readonly proof: string };

export async function shownFile(verified: Promise<VerifiedFile>): Promise<ShownFile> {
  const file = await verified;
  return { ...file, proof: formatProof(file.proof) };
}
