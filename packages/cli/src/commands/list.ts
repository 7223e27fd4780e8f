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
import type { Command } from 'commander';
import { REPOSITORY } from '@flatcar/workspace/select';
import { show, table } from '../output/terminal.ts';

/** One component of one version, and where it can come from. */
interface Row {
  readonly extension: string;
  readonly version: string;
  readonly component: string;
  readonly componentVersion: string;
  readonly origins: readonly string[];
  /** False where upstream's own file is the only way. */
  readonly fromSource: boolean;
  /** Why not. */
  readonly noSource?: string;
  /** What upstream's bytes were checked by when they were pinned. */
  readonly verified: readonly string[];
  /** Everything that it can come from has a digest in pins.json. */
  readonly pinned: boolean;
  /** Upstream publishes a hash of each of its own files, and it was checked. */
  readonly hashPublished: boolean;
  /** Each of upstream's own files, or its hash, has a signature that was checked. */
  readonly signatureChecked: boolean;
}

async function rows(): Promise<Row[]> {
  const found: Row[] = [];
  for (const dir of await findExtensions(REPOSITORY)) {
    const loaded = await loadExtension(dir);
    for (const version of newestFirst(Object.keys(loaded.pins))) {
      const { pin: lock, components } = await componentsOf(loaded, version);
      // An extension that has nothing of anybody else's is its own files.
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
          ...(component.noSource === undefined ? {} : { noSource: component.noSource }),
        });
      }
    }
  }
  return found;
}

/** `list`: extensions, versions and components of this repository. */
export function addList(root: Command): void {
  root
    .command('list')
    .description('list the extensions, their versions and components')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  flatcar-ext list\n  flatcar-ext list --json')
    .action(async (flags: { json?: boolean }) => {
      show(await rows(), flags.json, (all) =>
        table([
          ['extension', 'version', 'component', 'version', 'origins', 'pinned', 'hash', 'signed', 'verified by'],
          ...all.map((row) => [
            row.extension,
            row.version,
            row.component,
            row.componentVersion,
            row.fromSource || row.origins.every((kind) => kind === 'files')
              ? row.origins.join(', ')
              : `${row.origins.join(', ')} (no source route)`,
            ...[row.pinned, row.hashPublished, row.signatureChecked].map((one) => (one ? 'yes' : 'no')),
            row.verified.join('; '),
          ]),
        ]),
      );
    });
}
