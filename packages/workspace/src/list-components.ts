import { basename } from 'node:path';
import {
  type Component,
  componentsOf,
  findExtensions,
  loadExtension,
  locatorsOf,
  newestFirst,
  parseProof,
  SOURCE_ORIGINS,
} from '@flatcar/core/engine';
import { proofStrength } from '@flatcar/upstream/verify/proof';
import { REPOSITORY, unknownExtension } from './select.ts';

/** One component of a pinned version, and where it can come from. */
export interface ListedComponent {
  readonly extension: string;
  readonly version: string;
  readonly component: string;
  readonly componentVersion: string;
  readonly origins: readonly string[];
  /** Whether it can be compiled, or is made from packages or files. */
  readonly fromSource: boolean;
  /** Why it cannot. */
  readonly noSource: string | undefined;
  /** How the bytes of upstream were verified when they were pinned. */
  readonly verified: readonly string[];
  /** Whether everything that it can come from has a digest in pins.json. */
  readonly pinned: boolean;
  /** Whether a published hash of each file of upstream was checked. */
  readonly hashPublished: boolean;
  /** Whether a signature of each file of upstream, or of its hash, was checked. */
  readonly signatureChecked: boolean;
}

/** The folders of the extensions whose names contain one of the words; all without words. Throws a UsageError if a word matches none. */
async function matching(words: readonly string[]): Promise<string[]> {
  const dirs = await findExtensions(REPOSITORY);
  const isMatch = (dir: string, word: string): boolean => basename(dir).includes(word.toLowerCase());
  const unknown = words.find((word) => !dirs.some((dir) => isMatch(dir, word)));
  if (unknown !== undefined) throw unknownExtension(unknown, dirs);
  return words.length === 0 ? dirs : dirs.filter((dir) => words.some((word) => isMatch(dir, word)));
}

/** Every component of every pinned version of the extensions whose names contain one of the words. */
export async function listComponents(words: readonly string[]): Promise<ListedComponent[]> {
  const found: ListedComponent[] = [];
  for (const dir of await matching(words)) {
    const loaded = await loadExtension(dir);
    for (const version of newestFirst(Object.keys(loaded.pins))) {
      const { pin: lock, components } = await componentsOf(loaded, version);
      // An extension without components consists of its own files.
      const own: Component = { name: loaded.extension.name, version, origins: [{ kind: 'files', dir: 'files' }], install: [] };
      for (const one of components.length > 0 ? components : [{ component: own, pin: lock }]) {
        const { component, pin } = one;
        const { name, version: its, origins } = component;
        const locators = origins.flatMap((origin) => locatorsOf(origin, one));
        const proofs = locators.flatMap((locator) => pin.bytes[locator]?.proof ?? []);
        const upstreams = origins.filter(({ kind }) => kind === 'upstream');
        const checked = (upstreams.length > 0 ? upstreams : origins).flatMap((origin) =>
          locatorsOf(origin, one).map((locator) => proofStrength(parseProof(pin.bytes[locator]?.proof ?? ''))),
        );
        found.push({
          extension: loaded.extension.name,
          version,
          component: name,
          componentVersion: its,
          origins: origins.map(({ kind }) => kind),
          fromSource: origins.some(({ kind }) => SOURCE_ORIGINS.has(kind)),
          verified: [...new Set(proofs)],
          pinned: locators.every((locator) => pin.bytes[locator] !== undefined),
          hashPublished: checked.length > 0 && checked.every(({ published }) => published),
          signatureChecked: checked.length > 0 && checked.every(({ signed }) => signed),
          noSource: component.noSource,
        });
      }
    }
  }
  return found;
}
