// Mutations of inputs. All that is chosen at random is chosen by one generator, so that a seed gives the same inputs again.

/** A generator of numbers from 0 to n-1 (xorshift32, Marsaglia 2003). */
export type Random = (below: number) => number;

export function randomFrom(seed: number): Random {
  let state = (seed * 2_654_435_761 + 1) >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return below <= 0 ? 0 : state % below;
  };
}

function pick<T>(random: Random, list: readonly T[]): T {
  const one = list[random(list.length)];
  if (one === undefined) throw new RangeError('nothing to choose from');
  return one;
}

/** Numbers at which sizes and counts go wrong. */
const NUMBERS = [
  0,
  1,
  2,
  3,
  7,
  8,
  255,
  256,
  4095,
  4096,
  32_767,
  32_768,
  65_535,
  65_536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 53,
  2 ** 63,
];
/** Texts that mean something in the formats that are read here. */
const WORDS = [
  '\n',
  '\r\n',
  '\0',
  ' ',
  '\t',
  '"',
  "'",
  '\\',
  '{',
  '}',
  '[',
  ']',
  ':',
  ',',
  '=',
  '#',
  '%',
  '*',
  '/',
  '..',
  '-',
  '__proto__',
  '1e999',
  '-0',
  '\uFEFF',
  '\u001b[2J',
  '${x}',
  '99999999999999999999',
] as const;

type Mutation = (bytes: Buffer, random: Random, other: Buffer, words: readonly string[]) => Buffer;

/** A range of some bytes, mostly a short one. */
function range(bytes: Buffer, random: Random): [from: number, to: number] {
  const from = random(bytes.length);
  const length = 1 + random(random(4) === 0 ? bytes.length : Math.min(32, bytes.length));
  return [from, Math.min(bytes.length, from + length)];
}

const insert = (bytes: Buffer, at: number, what: Uint8Array): Buffer => Buffer.concat([bytes.subarray(0, at), what, bytes.subarray(at)]);

function writeNumber(bytes: Buffer, random: Random): Buffer {
  const width = pick(random, [1, 2, 4, 8]);
  if (bytes.length < width) return bytes;
  const at = random(bytes.length - width + 1);
  const own = bytes.length;
  const value = random(3) === 0 ? BigInt(random(own + 16)) : BigInt(pick(random, NUMBERS));
  const number = Buffer.alloc(8);
  number.writeBigUInt64LE(BigInt.asUintN(64, value));
  const part = number.subarray(0, width);
  bytes.set(random(4) === 0 ? part.toReversed() : part, at);
  return bytes;
}

const MUTATIONS: readonly Mutation[] = [
  (bytes, random) => {
    const at = random(bytes.length);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
    return bytes;
  },
  (bytes, random) => {
    bytes[random(bytes.length)] = random(256);
    return bytes;
  },
  (bytes, random) => {
    const at = random(bytes.length);
    bytes[at] = (bytes[at] ?? 0) + (random(2) === 0 ? 1 + random(16) : -1 - random(16));
    return bytes;
  },
  writeNumber,
  writeNumber,
  (bytes, random) => {
    const [from, to] = range(bytes, random);
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)]);
  },
  (bytes, random) => {
    const [from, to] = range(bytes, random);
    return insert(bytes, random(bytes.length + 1), bytes.subarray(from, to));
  },
  (bytes, random) => {
    const [from, to] = range(bytes, random);
    bytes.copy(bytes, random(bytes.length), from, to);
    return bytes;
  },
  (bytes, random, other) => {
    const [from, to] = range(other, random);
    return insert(bytes, random(bytes.length + 1), other.subarray(from, to));
  },
  (bytes, random, other) => Buffer.concat([bytes.subarray(0, random(bytes.length + 1)), other.subarray(random(other.length))]),
  (bytes, random, _, words) => insert(bytes, random(bytes.length + 1), Buffer.from(pick(random, words))),
  (bytes, random, _, words) => {
    const [from, to] = range(bytes, random);
    return Buffer.concat([bytes.subarray(0, from), Buffer.from(pick(random, words)), bytes.subarray(to)]);
  },
  (bytes, random) => bytes.subarray(0, random(bytes.length + 1)),
  // What grows with the square of its input shows when a part of it is repeated.
  (bytes, random) => {
    const [from, to] = range(bytes, random);
    const part = bytes.subarray(from, Math.min(to, from + 64));
    const times = random(8) === 0 ? 20_000 : 1 + random(200);
    return insert(bytes, from, Buffer.alloc(part.length * times, part));
  },
];

/** An input that was mutated one to eight times, of at most `most` bytes. */
export function mutate(input: Buffer, random: Random, about: { other: Buffer; words?: readonly string[]; most: number }): Buffer {
  const words = [...WORDS, ...(about.words ?? [])];
  let bytes: Buffer = Buffer.from(input);
  for (let left = 1 + random(random(3) === 0 ? 8 : 3); left > 0; left -= 1) {
    if (bytes.length === 0) bytes = Buffer.from(pick(random, words));
    bytes = pick(random, MUTATIONS)(bytes, random, about.other.length === 0 ? bytes : about.other, words);
  }
  return bytes.length > about.most ? bytes.subarray(0, about.most) : bytes;
}

/** Values that a field of JSON is replaced by. */
const VALUES: readonly ((random: Random) => unknown)[] = [
  () => null,
  () => [],
  () => ({}),
  () => '',
  () => -1,
  () => 1e308,
  () => true,
  (random) => 'x'.repeat(1 << random(17)),
  (random) => Array.from({ length: 1 << random(12) }, () => null),
  (random) => Object.fromEntries(Array.from({ length: 1 << random(10) }, (_, index) => [String(index), index])),
  (random) => JSON.parse(`${'['.repeat(1 << random(12))}0${']'.repeat(1 << random(12))}`.slice(0)) as unknown,
];

/** JSON in which one value, or one key, is another; the input itself where it is not JSON. */
export function mutateJson(input: Buffer, random: Random): Buffer {
  let root: unknown;
  try {
    root = JSON.parse(input.toString());
  } catch {
    return input;
  }
  let at = root;
  for (let depth = random(8); depth >= 0; depth -= 1) {
    if (typeof at !== 'object' || at === null) break;
    const keys = Object.keys(at);
    if (keys.length === 0) break;
    const key = pick(random, keys);
    const object = at as Record<string, unknown>;
    const next = object[key];
    if (depth > 0 && typeof next === 'object' && next !== null) {
      at = next;
      continue;
    }
    const choice = random(6);
    if (choice === 0) delete object[key];
    else if (choice === 1) object[pick(random, ['__proto__', 'constructor', 'more', key.toUpperCase()])] = next;
    else if (choice < 4 && typeof next === 'string')
      object[key] = mutate(Buffer.from(next), random, { other: input, most: 4096 }).toString();
    else object[key] = valueOf(random);
  }
  return Buffer.from(JSON.stringify(root));
}

function valueOf(random: Random): unknown {
  try {
    return pick(random, VALUES)(random);
  } catch {
    return null; // brackets that do not match
  }
}
