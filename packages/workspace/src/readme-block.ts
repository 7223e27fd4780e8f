import { glob } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  componentsOf,
  imageBase,
  imageVersion,
  inlineCode,
  linkFolder,
  linkName,
  locatorsOf,
  markdownText,
  newestFirst,
  type LoadedExtension,
  type PinnedComponent,
  type ImageVersion,
  type TargetName,
} from '@flatcar/core/engine';
import type { UseRootName } from '@flatcar/testing';

/** Placeholder for the URL of a published tree. */
const HOST = 'https://extensions.example.org';

const ORIGINS: Readonly<Record<string, string>> = {
  upstream: "upstream's file",
  go: 'Go module',
  cargo: 'crate',
  debian: 'Debian packages',
  source: 'source',
  files: 'this repository',
};

/** A cell of Markdown; text from locks and definitions must be escaped before. */
const cell = (text: string): string => text.replaceAll('|', String.raw`\|`).replaceAll(/\s*\n\s*/g, ' ');

const ROOTS: Readonly<Record<UseRootName, string>> = { bare: 'bare root', debian: 'Debian', emulated: 'other architecture' };

/** A Markdown table. */
export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`;
  return [line(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n');
}

/** How the files of a component were verified, for each origin. */
function verification(one: PinnedComponent): string {
  const proofs = one.component.origins.flatMap((origin) =>
    locatorsOf(origin, one).flatMap((locator) => {
      const proof = one.pin.bytes[locator]?.proof;
      return proof === undefined ? [] : [`${ORIGINS[origin.kind] ?? origin.kind}: ${markdownText(proof)}`];
    }),
  );
  return [...new Set(proofs)].join('; ');
}

function originsOf({ component }: PinnedComponent): string {
  return [...new Set(component.origins.map(({ kind }) => ORIGINS[kind] ?? kind))].join(', else ');
}

/** The units in the files of this repository that an extension ships, and those that it starts. */
async function unitsOf({ dir, extension }: LoadedExtension, components: readonly PinnedComponent[]): Promise<string[]> {
  const folders = [
    join(dir, 'files'),
    ...components.flatMap((one) =>
      one.component.origins.flatMap((origin) =>
        origin.kind === 'files' && one.component.name !== extension.name ? [join(one.dir, origin.dir)] : [],
      ),
    ),
  ];
  const found = await Promise.all(
    folders.map((cwd) => Array.fromAsync(glob('usr/lib/systemd/system/*.{service,socket,timer,path,target,mount}', { cwd }))),
  );
  return [...new Set([...found.flat().map((path) => basename(path)), ...extension.start])].toSorted();
}

/** A Butane configuration that puts an image on a node. */
function butane({ extension }: LoadedExtension, version: ImageVersion): string {
  const { name, releaseBound } = extension;
  // A portable image, if there is one: a release number would be outdated with each release.
  const [target, link] = releaseBound ? ['RELEASE', `${name}-RELEASE.raw`] : ['portable', linkName(name, 'portable')];
  const file = `${imageBase(name, version, target as TargetName, 'x86-64')}.raw`; // RELEASE is for the reader to replace
  return [
    '```yaml',
    'variant: flatcar',
    'version: 1.1.0',
    'storage:',
    '  files:',
    `    - path: /opt/extensions/${name}/${file}`,
    '      contents:',
    `        source: ${HOST}/${name}/${target}/${file}`,
    '  links:',
    `    - path: ${linkFolder(extension.kind)}/${link}`,
    `      target: /opt/extensions/${name}/${file}`,
    '      hard: false',
    '```',
  ].join('\n');
}

/** A part of the block: a heading (if any) and paragraphs; empty if there is nothing to show. */
type Part = readonly string[];

async function versionsPart(loaded: LoadedExtension): Promise<Part> {
  const { pins } = loaded;
  const rows: string[][] = [];
  for (const version of newestFirst(Object.keys(pins))) {
    const { components } = await componentsOf(loaded, version);
    const image = imageVersion(version, pins[version]?.revision ?? 0);
    if (components.length === 0) rows.push([image, 'files/', '', 'Apache-2.0', ORIGINS['files'] ?? '', '']);
    for (const [index, one] of components.entries()) {
      const { component, pin } = one;
      const isOurs = component.origins.every(({ kind }) => kind === 'files');
      rows.push([
        index === 0 ? image : '',
        markdownText(component.name),
        isOurs ? '' : markdownText(component.version),
        isOurs ? 'Apache-2.0' : markdownText(pin.licenses[component.name] ?? ''),
        originsOf(one),
        verification(one),
      ]);
    }
  }
  return ['## Versions', markdownTable(['image', 'component', 'version', 'license', 'origin', 'verified by'], rows)];
}

async function unitsPart(loaded: LoadedExtension, newest: string): Promise<Part> {
  const { components } = await componentsOf(loaded, newest);
  const units = await unitsOf(loaded, components);
  if (units.length === 0) return [];
  const started = new Set(loaded.extension.start);
  const rows = units.map((unit) => [inlineCode(unit), started.has(unit) ? 'yes' : 'no']);
  return ['## Units', markdownTable(['unit', 'starts with the image'], rows)];
}

/** How the extension relates to the host and to other extensions. */
function relationsPart({ extension: { replaces, requires, conflicts } }: LoadedExtension): Part {
  const links = requires.map((one) => `[${one}](../${one}/README.md)`).join(', ');
  return [
    ...(replaces.length === 0 ? [] : [`The image replaces ${replaces.map((path) => inlineCode(`/${path}`)).join(', ')} of the host.`]),
    ...(requires.length === 0 ? [] : [`The image requires ${links}, which \`flatcar-ext butane\` and \`flatcar-ext ignition\` add.`]),
    ...(conflicts.length === 0 ? [] : [`The image cannot be merged together with ${conflicts.map(inlineCode).join(', ')}.`]),
  ];
}

/** What the tests do with the merged image, and on which roots. */
async function testsPart(dir: string): Promise<Part> {
  const { declaredUses, USE_ROOTS } = await import('@flatcar/testing');
  const uses = await declaredUses(dir);
  if (uses.length === 0) return [];
  const rows = uses.map(({ does, except }) => [does, ...USE_ROOTS.map((root) => except?.[root] ?? 'yes')]);
  return [
    '## What is tested',
    'Tests do this with the merged image on three roots: one with only busybox, bash and CA certificates; Debian 13 with the os-release of Flatcar; and, for the image of the other architecture, the bare root with qemu-user.',
    markdownTable(['what', ...USE_ROOTS.map((root) => ROOTS[root])], rows),
  ];
}

/** The generated block of an extension's README, without the lines around it. `sizes` is the section with image sizes, or empty. */
export async function readmeBlock(loaded: LoadedExtension, sizes: string): Promise<string> {
  const { pins, dir } = loaded;
  const [newest = ''] = newestFirst(Object.keys(pins));
  return [
    ...(await versionsPart(loaded)),
    ...(newest === '' ? [] : await unitsPart(loaded, newest)),
    ...relationsPart(loaded),
    ...(await testsPart(dir)),
    '## Butane',
    `For x86-64 and any release. Replace ${HOST} with the URL of your tree. [Using an extension](../../docs/using-an-extension.md) shows how to install images that are bound to a release.`,
    butane(loaded, imageVersion(newest, pins[newest]?.revision ?? 0)),
    ...(sizes === '' ? [] : [sizes]),
  ].join('\n\n');
}
