/** Clocks may differ by minutes; in milliseconds. */
const TOLERANCE = 3_600_000;

/**
 * The problem with a signature that was made later than now: the clock of this machine or of the signer is wrong, and the signature is no
 * evidence about the bytes. Undefined if the time is plausible.
 */
export function clockProblem(signed: Date | null | undefined, now: Date = new Date()): string | undefined {
  if (signed === undefined || signed === null || signed.getTime() <= now.getTime() + TOLERANCE) return undefined;
  return `it was signed at ${signed.toISOString()}, and this machine's clock reads ${now.toISOString()}: one of them is wrong`;
}
