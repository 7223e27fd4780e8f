import { UserError } from '@flatcar/core';

/** What failed, and for whom. */
export interface Failure {
  readonly who: string;
  readonly error: string;
  readonly where?: string | undefined;
  readonly next?: string | undefined;
}

/** One host that does not answer fails many: what is said alike of several is told once, with all of them. */
export function toldOnce(failures: readonly Failure[]): UserError[] {
  return [...Map.groupBy(failures, ({ error, next }) => JSON.stringify([error, next])).values()].map((group) => {
    const [{ error, next } = { error: '', next: undefined }] = group;
    const where = group.map((one) => [one.who, ...(one.where === undefined ? [] : [one.where])].join(': ')).join(', ');
    return new UserError(error, { where, ...(next === undefined ? {} : { next }) });
  });
}
