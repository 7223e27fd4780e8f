import { ARCHES, compareVersions } from '@flatcar/core/browser';
import type { Index } from '@flatcar/publish/tree/schema';
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { choose, linkTo } from './route.ts';

type Entry = Index['extensions'][number];

/** Entries that are shown before "more": a page of hundreds is slow to read, not only to draw. */
const PAGE = 60;

/** Targets of a tree, newest release first, `portable` last. */
export const targetsOf = (entries: readonly Entry[]): string[] =>
  [...new Set(entries.flatMap(({ targets }) => targets))].toSorted((a, b) =>
    a === 'portable' ? 1 : b === 'portable' ? -1 : compareVersions(b, a),
  );

/** Entries that match every word of the search by name, summary or version, and the release and architecture. */
export function search(entries: readonly Entry[], choice: URLSearchParams): Entry[] {
  const words = (choice.get('q') ?? '').toLowerCase().split(/\s+/).filter(Boolean);
  const [release, arch] = [choice.get('release'), choice.get('arch')];
  return entries.filter(
    ({ name, summary, versions, targets, architectures }) =>
      words.every((word) => `${name} ${summary}`.toLowerCase().includes(word) || versions.some((version) => version.startsWith(word))) &&
      (release === null || targets.includes(release)) &&
      (arch === null || architectures.some((one) => one === arch)),
  );
}

function Choice({
  label,
  name,
  options,
  choice,
}: {
  label: string;
  name: string;
  options: readonly string[];
  choice: URLSearchParams;
}): JSX.Element {
  return (
    <label>
      {label}
      <select
        value={choice.get(name) ?? ''}
        onChange={({ currentTarget }) => choose('', { ...Object.fromEntries(choice), [name]: currentTarget.value })}
      >
        <option value="">any</option>
        {options.map((one) => (
          <option key={one} value={one}>
            {one}
          </option>
        ))}
      </select>
    </label>
  );
}

/** The list of all extensions with search and filters. */
export function Catalogue({ index, choice }: { index: Index; choice: URLSearchParams }): JSX.Element {
  const [limit, setLimit] = useState(PAGE);
  const found = search(index.extensions, choice);
  return (
    <>
      <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
        <label class="wide">
          Search
          <input
            type="search"
            value={choice.get('q') ?? ''}
            placeholder="name, words of the summary, or a version"
            onInput={({ currentTarget }) => choose('', { ...Object.fromEntries(choice), q: currentTarget.value })}
          />
        </label>
        <Choice label="Flatcar release" name="release" options={targetsOf(index.extensions)} choice={choice} />
        <Choice label="Architecture" name="arch" options={ARCHES} choice={choice} />
      </form>
      <p role="status">
        {found.length} of {index.extensions.length} extensions
      </p>
      <ul class="cards">
        {found.slice(0, limit).map(({ name, kind, summary, newest, versions, targets, architectures }) => (
          <li key={name}>
            <h2>
              <a href={linkTo(name)}>{name}</a>
            </h2>
            <p>{summary}</p>
            <p class="facts">
              {newest === '' ? 'no version is available' : `newest ${newest}`} · {versions.length}{' '}
              {versions.length === 1 ? 'version' : 'versions'} · {targets.length} {targets.length === 1 ? 'target' : 'targets'} ·{' '}
              {architectures.join(', ')}
              {kind === 'confext' ? ' · configuration' : ''}
            </p>
          </li>
        ))}
      </ul>
      {found.length > limit && (
        <button type="button" onClick={() => setLimit(limit + PAGE)}>
          Show {Math.min(PAGE, found.length - limit)} more
        </button>
      )}
    </>
  );
}
