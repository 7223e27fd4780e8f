import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { copyTree, flatcarExt, laterCatalogue, NEW, TARGETS, VERSIONS, type World } from './world.ts';

/** A folder of its own for one run of a command. */
export interface Round {
  readonly dir: string;
  readonly store: string;
  readonly temp: string;
  readonly checkout: string;
  /** What the command writes: images, a tree, keys. Each may be missing. */
  readonly out: string;
}

/** What the command's output is, and so what must be true of it at any moment. */
export type Kind = 'images' | 'tree' | 'keys' | 'checkout' | 'store';

/** One command that is tortured. */
export interface Torture {
  readonly name: string;
  readonly kind: Kind;
  /** Makes what the command begins with, besides the store. */
  prepare(round: Round, world: World): Promise<void>;
  args(round: Round, world: World): readonly string[];
  env?(world: World): Promise<NodeJS.ProcessEnv>;
  /** True where the command works in a checkout of its own. */
  readonly ownCheckout?: boolean;
  /** What its next run may end with although it has nothing to do any more. */
  readonly already?: RegExp;
}

const [V0, V1, V2] = VERSIONS;
const nothing = (): Promise<void> => Promise.resolve();
const signing = ({ keys }: World): readonly string[] => ['--keys', keys];
const URL = ['--base-url', 'https://extensions.example.org'];

/** The signing key of disk images as a secret of a CI gives it: it must not stay anywhere. */
async function secretKey({ keys }: World): Promise<NodeJS.ProcessEnv> {
  return {
    FLATCAR_EXT_ROOTHASH_KEY: await readFile(join(keys, 'roothash.key'), 'utf8'),
    FLATCAR_EXT_ROOTHASH_CERTIFICATE: await readFile(join(keys, 'roothash.crt'), 'utf8'),
  };
}

const from =
  (tree: keyof World['trees']) =>
  ({ out }: Round, world: World): Promise<void> =>
    copyTree(world.trees[tree], out);

const builds: readonly Torture[] = [
  {
    name: 'build',
    kind: 'images',
    prepare: nothing,
    args: ({ out }, world) => [
      ...`build demo@${V1} --release ${TARGETS} --profile publish --origin upstream --out`.split(' '),
      out,
      ...signing(world),
    ],
  },
  {
    name: 'bind',
    kind: 'images',
    prepare: nothing,
    env: secretKey,
    args: ({ out }, { images }) => ['bind', images[V1] ?? '', '--release', '4593.2.4,alpha,beta', '--out', out],
  },
  {
    name: 'cache',
    kind: 'store',
    prepare: nothing,
    args: () => ['cache', 'verify'],
  },
  {
    name: 'prune',
    kind: 'store',
    prepare: nothing,
    args: () => ['cache', 'prune', '--max-size', '0'],
  },
];

const trees: readonly Torture[] = [
  {
    name: 'publish',
    kind: 'tree',
    prepare: from('first'),
    args: ({ out }, world) => ['publish', world.images[V1] ?? '', '--tree', out, ...signing(world)],
  },
  {
    name: 'first-publish',
    kind: 'tree',
    prepare: nothing,
    args: ({ out }, world) => ['publish', world.images[V0] ?? '', '--tree', out, ...URL, ...signing(world)],
  },
  {
    name: 'retire',
    kind: 'tree',
    prepare: from('both'),
    env: laterCatalogue,
    args: ({ out }, world) => ['retire', '--tree', out, ...signing(world)],
  },
  {
    name: 'drop',
    kind: 'tree',
    prepare: ({ out }, { trees: { retired } }) => copyTree(retired, out),
    args: ({ out }, world) => ['publish', world.images[V1] ?? '', '--tree', out, ...signing(world)],
  },
  {
    name: 'withdraw',
    kind: 'tree',
    prepare: from('both'),
    args: ({ out }, world) => ['withdraw', `demo@${V1}`, '--content', V0, '--reason', 'a test', '--tree', out, ...signing(world)],
  },
  {
    name: 'mirror',
    kind: 'tree',
    prepare: ({ out }, { mirror }) => copyTree(mirror, out),
    args: ({ out }, world) => [
      'mirror',
      '--to',
      out,
      '--tree',
      world.trees.both,
      '--base-url',
      'https://mirror.example.org',
      ...signing(world),
    ],
  },
];

const others: readonly Torture[] = [
  {
    name: 'pin',
    kind: 'checkout',
    prepare: nothing,
    ownCheckout: true,
    args: () => ['pin', `demo@${V2}`],
  },
  {
    name: 'new',
    kind: 'checkout',
    prepare: nothing,
    ownCheckout: true,
    already: /exists already|is there already|there is an extension/,
    args: () => ['new', 'other', ...NEW, '--version', V0],
  },
  {
    name: 'keys-init',
    kind: 'keys',
    prepare: nothing,
    already: /is a set of keys|not empty/,
    args: ({ out }) => ['keys', 'init', out],
  },
  {
    name: 'keys-rotate',
    kind: 'keys',
    prepare: ({ out }, { keys }) => copyTree(keys, out),
    already: /already in progress/,
    args: ({ out }) => ['keys', 'rotate', out],
  },
  {
    name: 'keys-finish',
    kind: 'keys',
    prepare: ({ out }, { rotated }) => copyTree(rotated, out),
    already: /no rotation is in progress/,
    args: ({ out }) => ['keys', 'rotate', out, '--finish'],
  },
];

/** All of them, in the order of the table. */
export const COMMANDS: readonly Torture[] = [...builds, ...trees, ...others];

/** Makes the folder of a round, with a store that holds the tools. */
export async function makeRound(torture: Torture, world: World, dir: string): Promise<Round> {
  const round = {
    dir,
    store: join(dir, 'store'),
    temp: join(dir, 'temp'),
    checkout: torture.ownCheckout === true ? join(dir, 'checkout') : world.checkout,
    out: join(dir, 'out'),
  };
  await mkdir(round.temp, { recursive: true });
  await world.shareStore(round.store);
  if (torture.ownCheckout === true) await copyTree(world.checkout, round.checkout);
  await torture.prepare(round, world);
  return round;
}

/** The whole command line of a round. */
export const commandOf = (torture: Torture, round: Round, world: World): readonly string[] =>
  flatcarExt(round.checkout, ...torture.args(round, world));
