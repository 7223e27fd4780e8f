import { createHash, type BinaryLike } from 'node:crypto';

/** sha256 of bytes or text, in hex. */
export const sha256Of = (data: BinaryLike): string => createHash('sha256').update(data).digest('hex');

/** sha256 (hex) of a JSON value, whatever the order of its keys. Throws a TypeError for what JSON would lose: a key must not forget an input. */
export function digestOf(value: unknown): string {
  const canonical = JSON.stringify(value, (key, item: unknown) => {
    if (typeof item === 'number' && !Number.isFinite(item)) throw new TypeError(`'${key}' is ${item}, which JSON cannot represent`);
    if (typeof item === 'function' || typeof item === 'symbol') throw new TypeError(`'${key}' is a ${typeof item}, not JSON`);
    if (item === null || typeof item !== 'object' || Array.isArray(item)) return item;
    const prototype: unknown = Object.getPrototypeOf(item);
    if (prototype !== Object.prototype && prototype !== null) throw new TypeError(`'${key}' is not a plain object`);
    return Object.fromEntries(Object.entries(item).toSorted(([a], [b]) => (a < b ? -1 : 1)));
  });
  if (canonical === undefined) throw new TypeError('undefined has no digest');
  return sha256Of(canonical);
}
