import { UserError } from '@flatcar/core/engine';

/** What failed, and where. */
export interface Failure {
  readonly error: string;
  readonly where: string;
  readonly next?: string | undefined;
}

/** One host that does not answer fails many: what is said alike of several places is told once, with all of them. */
export function groupFailures(failures: readonly Failure[]): UserError[] {
  return [...Map.groupBy(failures, ({ error, next }) => JSON.stringify([error, next])).values()].map((group) => {
    const [{ error, next } = { error: '', next: undefined }] = group;
    return new UserError(error, { where: group.map(({ where }) => where).join(', '), next });
  });
}
