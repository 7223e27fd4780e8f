import { ARCHES, differenceBetween, formatBytes, type Arch, type Difference, type Payload } from '@flatcar/core/browser';
import { urlPath } from '@flatcar/publish/tree/layout';
import type { ExtensionIndex, PublishedVersion } from '@flatcar/publish/tree/schema';
import type { ComponentChildren, JSX } from 'preact';
import { useState } from 'preact/hooks';
import { SizeChart } from './chart.tsx';
import { Show, useLoaded } from './load.tsx';
import { linkTo } from './route.ts';
import type { PublishedTree } from './tree.ts';

/** Versions that are shown before "more". */
const PAGE = 5;
/** Changed files that are listed. */
const MOST_FILES = 200;

const DAY = 86_400_000;

/** How long ago a day was. */
function ageOf(day: string): string {
  const days = Math.max(0, Math.floor((Date.now() - Date.parse(day)) / DAY));
  return days === 0 ? 'today' : days === 1 ? 'yesterday' : days < 60 ? `${days} days ago` : `${Math.floor(days / 30)} months ago`;
}

function Table({
  caption,
  head,
  rows,
}: {
  caption: string;
  head: readonly string[];
  rows: readonly (readonly ComponentChildren[])[];
}): JSX.Element {
  return (
    // A focusable region, so that people without a pointer can scroll it.
    <div class="scroll" role="region" aria-label={caption} tabIndex={0}>
      <table>
        <caption>{caption}</caption>
        <thead>
          <tr>
            {head.map((one) => (
              <th key={one} scope="col">
                {one}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, index) => (
            <tr key={index}>{row.map((cell, column) => (column === 0 ? <th scope="row">{cell}</th> : <td>{cell}</td>))}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Images({ version: { version, images } }: { version: PublishedVersion }): JSX.Element {
  const targets = [...new Set(images.map(({ target }) => target))];
  const rows = targets.map((target) => {
    const cells = ARCHES.map((arch) => {
      const image = images.find((one) => one.target === target && one.architecture === arch);
      if (image === undefined) return '–';
      return (
        <>
          <a href={urlPath(image.path)}>{formatBytes(image.size)}</a> <code title={image.sha256}>{image.sha256.slice(0, 12)}</code>
        </>
      );
    });
    return [target, images.find((one) => one.target === target)?.format ?? '', ...cells];
  });
  return <Table caption={`Images of ${version}: size, and beginning of sha256`} head={['target', 'format', ...ARCHES]} rows={rows} />;
}

function Components({ version, payload: { components } }: { version: PublishedVersion; payload: Payload }): JSX.Element {
  const rows = components.map((one) => [
    one.name,
    one.version,
    one.license,
    one.origin,
    [...new Set(one.materials.map(({ proof }) => proof))].filter((proof) => proof !== '').join('; ') || 'files of this project',
  ]);
  return (
    <Table
      caption={`Components of ${version.version}, where their bytes come from, and what these were checked by`}
      head={['component', 'version', 'license', 'origin', 'proof']}
      rows={rows}
    />
  );
}

function Changes({ before, difference }: { before: PublishedVersion; difference: Difference }): JSX.Element {
  const { versions, files, requirements, size } = difference;
  const rows = [
    ...versions.map((one) => ['component', one.component, one.before || 'none', one.after || 'none']),
    ...requirements.map((one) => ['requirement', one.what, one.before || 'none', one.after || 'none']),
    ...files.slice(0, MOST_FILES).map((one) => [one.what, one.path, formatBytes(one.before), formatBytes(one.after)]),
  ];
  return (
    <>
      <p>
        Size {formatBytes(size.before)} → {formatBytes(size.after)}, {files.length} files differ
        {files.length > MOST_FILES ? `, of which ${MOST_FILES} are listed` : ''}.
      </p>
      <Table caption={`Changes since ${before.version}`} head={['what', 'name', 'before', 'after']} rows={rows} />
    </>
  );
}

function Requirements({ version: { needs, requires, conflicts, replaces } }: { version: PublishedVersion }): JSX.Element {
  const [one] = Object.values(needs);
  const facts: readonly (readonly [string, string])[] = [
    ['systemd', one === undefined ? '' : `${one.systemd} or later`],
    ['glibc', one?.glibc === undefined ? '' : `${one.glibc} or later`],
    ['kernel', one?.kernel ?? ''],
    ['libraries of the host', one?.libraries.join(', ') ?? ''],
    ['requires', requires.join(', ')],
    ['cannot be merged with', conflicts.join(', ')],
    ['replaces on the host', replaces.join(', ')],
  ];
  return (
    <dl>
      {facts
        .filter(([, value]) => value !== '')
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

/** The content of a version for one architecture, as it is compared. */
const contentOf = ({ tree, ...payload }: Payload, version: PublishedVersion, slot: string): Parameters<typeof differenceBetween>[0] => ({
  ...payload,
  entries: tree.entries,
  size: version.images.find(({ architecture, format }) => `${architecture} ${format}` === slot)?.size ?? 0,
});

/** Components and changes of a version: read when they are opened, because the records are large. */
function Record({ tree, index, version }: { tree: PublishedTree; index: ExtensionIndex; version: PublishedVersion }): JSX.Element {
  const [slot = ''] = Object.keys(version.payloads).toReversed();
  const before = index.versions[index.versions.indexOf(version) + 1];
  const loaded = useLoaded(
    async () => ({
      now: await tree.payload(index.name, version, slot),
      earlier: before === undefined ? undefined : await tree.payload(index.name, before, slot),
    }),
    [version, slot],
  );
  return (
    <Show of={loaded}>
      {({ now, earlier }) =>
        now === undefined ? (
          <p>The index lists no record of this version.</p>
        ) : (
          <>
            <Components version={version} payload={now} />
            {before === undefined || earlier === undefined ? (
              <p>There is no earlier version to compare with.</p>
            ) : (
              <Changes before={before} difference={differenceBetween(contentOf(earlier, before, slot), contentOf(now, version, slot))} />
            )}
          </>
        )
      }
    </Show>
  );
}

function Version({
  tree,
  index,
  version,
  isOpen,
}: {
  tree: PublishedTree;
  index: ExtensionIndex;
  version: PublishedVersion;
  isOpen: boolean;
}): JSX.Element {
  const [isRead, setRead] = useState(false);
  const { withdrawn, published } = version;
  return (
    <details class="version" open={isOpen}>
      <summary>
        <h2>{version.version}</h2>
        {published !== undefined && (
          <span>
            published <time dateTime={published}>{published}</time>, {ageOf(published)}
          </span>
        )}
        {withdrawn !== undefined && <strong class="withdrawn">withdrawn</strong>}
      </summary>
      {withdrawn !== undefined && (
        <p class="withdrawn">
          Withdrawn{withdrawn.date === undefined ? '' : ` on ${withdrawn.date}`}: {withdrawn.reason}. Use {withdrawn.by}.
        </p>
      )}
      <Requirements version={version} />
      <Images version={version} />
      <details onToggle={({ currentTarget }) => currentTarget.open && setRead(true)}>
        <summary>Components, their proof, and changes since the version before</summary>
        {isRead && <Record tree={tree} index={index} version={version} />}
      </details>
    </details>
  );
}

/** Sizes of one target on each architecture: of the target that most versions have. */
function sizeLines({ versions }: ExtensionIndex): { target: string; lines: { name: Arch; points: { version: string; size: number }[] }[] } {
  const counts = Map.groupBy(
    versions.flatMap(({ images }) => images),
    ({ target }) => target,
  );
  const target = [...counts].toSorted(([, a], [, b]) => b.length - a.length)[0]?.[0] ?? '';
  const lines = ARCHES.map((name) => ({
    name,
    points: versions.toReversed().flatMap(({ version, images }) => {
      const image = images.find((one) => one.target === target && one.architecture === name);
      return image === undefined ? [] : [{ version, size: image.size }];
    }),
  }));
  return { target, lines: lines.filter(({ points }) => points.length > 0) };
}

function Loaded({ tree, index }: { tree: PublishedTree; index: ExtensionIndex }): JSX.Element {
  const [limit, setLimit] = useState(PAGE);
  const { name, kind, summary, versions } = index;
  const licenses = [...new Set(versions.slice(0, 1).flatMap(({ components }) => components.map(({ license }) => license)))];
  const { target, lines } = sizeLines(index);
  const newest = versions.find(({ withdrawn }) => withdrawn === undefined)?.version;
  return (
    <>
      <p class="lead">{summary}</p>
      <p class="facts">
        {kind === 'sysext' ? 'system extension' : 'configuration extension'} · licenses: {licenses.join(', ') || 'none'} ·{' '}
        <a href={linkTo('compose', { x: [name] })}>compose a node with {name}</a>
      </p>
      {lines.length > 0 && (
        <section>
          <h2>Size over versions ({target})</h2>
          <SizeChart lines={lines} />
        </section>
      )}
      {versions.slice(0, limit).map((version) => (
        <Version key={version.version} tree={tree} index={index} version={version} isOpen={version.version === newest} />
      ))}
      {versions.length > limit && (
        <button type="button" onClick={() => setLimit(limit + PAGE)}>
          Show {Math.min(PAGE, versions.length - limit)} more of {versions.length} versions
        </button>
      )}
    </>
  );
}

/** Everything about one extension. */
export function Extension({ tree, name }: { tree: PublishedTree; name: string }): JSX.Element {
  const loaded = useLoaded(() => tree.extension(name), [name]);
  return (
    <Show of={loaded}>
      {(index) =>
        index === undefined ? <p role="alert">‘{name}’ is not published here.</p> : <Loaded key={name} tree={tree} index={index} />
      }
    </Show>
  );
}
