import { throwIfInterrupted } from './interrupt.ts';

/**
 * Maps a list with at most `width` calls at once; the results are in the list's order.
 * After an error no further call begins, and the first error is thrown once the running calls have ended.
 */
export async function mapParallel<T, R>(items: readonly T[], map: (item: T) => Promise<R>, width = 8): Promise<R[]> {
  const results: R[] = [];
  const errors: unknown[] = [];
  const rest = items.entries();
  const work = async (): Promise<void> => {
    for (const [index, item] of rest) {
      try {
        throwIfInterrupted();
        results[index] = await map(item);
      } catch (error) {
        errors.push(error);
      }
      if (errors.length > 0) return;
    }
  };
  await Promise.all(Array.from({ length: width }, work));
  if (errors.length > 0) throw errors[0];
  return results;
}
