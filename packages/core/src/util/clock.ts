/** Clocks differ by minutes without harm; in milliseconds. */
const TOLERANCE = 3_600_000;

/**
 * What is wrong when something was signed later than now: then this machine's clock is wrong, or the signer's, and the signature says nothing
 * of the bytes. Undefined where the time is no reason.
 */
export function clockProblem(signed: Date | null | undefined, now: Date = new Date()): string | undefined {
  if (signed === undefined || signed === null || signed.getTime() <= now.getTime() + TOLERANCE) return undefined;
  return `it was signed at ${signed.toISOString()}, and this machine's clock says ${now.toISOString()}: one of them is wrong`;
}
