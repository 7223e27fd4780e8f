import { UnreachableError, UserError, UserErrors } from '@flatcar/core/engine';

/** Why an extension cannot be built here: its upstream is not reachable, and there is no source to compile. Undefined for any other error. */
export function unreachableReason(error: unknown): string | undefined {
  if (error instanceof UserErrors) {
    const reasons = error.errors.map(unreachableReason);
    return reasons.includes(undefined) ? undefined : reasons.join('; ');
  }
  return error instanceof UserError && error.cause instanceof UnreachableError ? error.message : undefined;
}
