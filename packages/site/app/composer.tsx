import { ARCHES, nearest, parseArch, parseRef, UserError, UserErrors, type Target } from '@flatcar/core/browser';
import { butaneText, nodeComment } from '@flatcar/publish/node/butane';
import { nodeConfig } from '@flatcar/publish/node/config';
import { ignitionConfig } from '@flatcar/publish/node/ignition';
import type { Index } from '@flatcar/publish/tree/schema';
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import releases from 'virtual:releases';
import { targetsOf } from './catalogue.tsx';
import { Show, useLoaded } from './load.tsx';
import { choose } from './route.ts';
import type { PublishedTree } from './tree.ts';

const FORMS = ['butane', 'ignition'] as const;

/** What was chosen, with defaults for the rest. */
interface Choice {
  /** `kubernetes`, `kubernetes@1.36`, as on the command line. */
  readonly x: readonly string[];
  readonly release: string;
  readonly arch: string;
  readonly form: (typeof FORMS)[number];
  readonly url: string;
}

/** A Flatcar release by its number, as `flatcar-ext --release` knows it. */
function targetOf(number: string): Target {
  if (number === 'portable') return number;
  const known = releases.find((release) => release.number === number) ?? nearest(number, releases);
  if (known === undefined) throw new UserError(`Flatcar ${number} is not known`);
  return { ...known, number };
}

const channelOf = (number: string): string => {
  const channel = releases.find((release) => release.number === number)?.channel;
  return channel === undefined ? number : `${number} (${channel})`;
};

/** Choices of a URL's fragment. */
function choiceOf(query: URLSearchParams, { baseUrl, extensions }: Index): Choice {
  const targets = targetsOf(extensions);
  const stable = new Set(releases.filter(({ channel }) => channel === 'stable').map(({ number }) => number));
  return {
    x: query.getAll('x'),
    release: query.get('release') ?? targets.find((target) => stable.has(target)) ?? targets[0] ?? '',
    arch: query.get('arch') ?? ARCHES[0] ?? '',
    form: FORMS.find((form) => form === query.get('form')) ?? 'butane',
    url: query.get('url') ?? baseUrl,
  };
}

/** An error with what to do about it. */
const problemsOf = (error: unknown): string[] =>
  error instanceof UserErrors
    ? error.errors.flatMap(problemsOf)
    : [error instanceof UserError && error.next !== undefined ? `${error.message}: ${error.next}` : (error as Error).message];

interface Composed {
  readonly text: string;
  readonly notices: readonly string[];
  readonly problems: readonly string[];
}

/** The text that `flatcar-ext butane` or `ignition` prints for these choices: both call the same functions. */
async function compose(tree: PublishedTree, { x, release, arch, form, url }: Choice): Promise<Composed> {
  const index = await tree.index();
  try {
    const request = {
      wanted: x.map(parseRef),
      targets: [targetOf(release)],
      arch: parseArch(arch),
      baseUrl: url,
      minimal: false,
      stager: true,
      published: index.extensions.map(({ name }) => name),
    };
    const { config, notices } = await nodeConfig(request, (name) => tree.extension(name), await tree.keyring());
    const text =
      form === 'butane'
        ? await butaneText(config, nodeComment(x, release, { serial: index.serial, baseUrl: url }))
        : `${JSON.stringify(ignitionConfig(config), undefined, 2)}\n`;
    return { text, notices, problems: [] };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return { text: '', notices: [], problems: problemsOf(error) };
  }
}

/** Channels of an extension that a node can follow: the newest version, branches, and each version. */
function channelsOf(versions: readonly string[]): string[] {
  const branches = versions.flatMap((version) => {
    const parts = version.split('-')[0]?.split('.') ?? [];
    return parts.slice(0, -1).map((_, index) => parts.slice(0, index + 1).join('.'));
  });
  return [...new Set([...branches, ...versions])];
}

function Chosen({
  word,
  versions,
  change,
}: {
  word: string;
  versions: readonly string[];
  change: (word: string | undefined) => void;
}): JSX.Element {
  const [name = '', version = ''] = word.split('@');
  return (
    <li>
      <label>
        {name} follows
        <select
          value={version}
          onChange={({ currentTarget }) => change(currentTarget.value === '' ? name : `${name}@${currentTarget.value}`)}
        >
          <option value="">the newest version</option>
          {channelsOf(versions).map((one) => (
            <option key={one} value={one}>
              {versions.includes(one) ? `stays at ${one}` : `the newest ${one}`}
            </option>
          ))}
        </select>
      </label>
      <button type="button" onClick={() => change(undefined)}>
        Remove<span class="hidden"> {name}</span>
      </button>
    </li>
  );
}

function Result({ composed: { text, notices, problems }, form }: { composed: Composed; form: string }): JSX.Element {
  const [copied, setCopied] = useState('');
  const file = form === 'butane' ? 'node.bu' : 'node.ign';
  return (
    <>
      {problems.map((problem) => (
        <p key={problem} role="alert" class="error">
          {problem}
        </p>
      ))}
      {notices.map((notice) => (
        <p key={notice} class="notice">
          {notice}
        </p>
      ))}
      {text !== '' && (
        <>
          <p class="buttons">
            <button
              type="button"
              onClick={() => {
                // Browsers offer the clipboard to pages of HTTPS and of this machine only.
                const write = navigator.clipboard?.writeText(text) ?? Promise.reject(new Error('no clipboard'));
                write.then(
                  () => setCopied('copied'),
                  () => setCopied('this browser does not allow it: select the text below'),
                );
              }}
            >
              Copy
            </button>
            <a class="button" download={file} href={`data:text/plain;charset=utf-8,${encodeURIComponent(text)}`}>
              Download {file}
            </a>
            <span role="status">{copied}</span>
          </p>
          <pre tabIndex={0} aria-label={file}>
            {text}
          </pre>
        </>
      )}
    </>
  );
}

/** Composes what a node gets at its first boot. */
export function Composer({ tree, index, query }: { tree: PublishedTree; index: Index; query: URLSearchParams }): JSX.Element {
  const choice = choiceOf(query, index);
  const { x, release, arch, form, url } = choice;
  const set = (change: Partial<Choice>): void => choose('compose', { ...choice, ...change });
  const composed = useLoaded(() => compose(tree, choice), [JSON.stringify(choice)]);
  const chosen = new Set(x.map((word) => word.split('@')[0]));
  const select = (
    label: string,
    value: string,
    options: readonly string[],
    key: keyof Choice,
    show = (one: string) => one,
  ): JSX.Element => (
    <label>
      {label}
      <select value={value} onChange={({ currentTarget }) => set({ [key]: currentTarget.value })}>
        {options.map((one) => (
          <option key={one} value={one}>
            {show(one)}
          </option>
        ))}
      </select>
    </label>
  );
  return (
    <>
      <form class="filters" onSubmit={(event) => event.preventDefault()}>
        <label>
          Add an extension
          <select value="" onChange={({ currentTarget }) => set({ x: [...x, currentTarget.value] })}>
            <option value="">choose…</option>
            {index.extensions
              .filter(({ name }) => !chosen.has(name))
              .map(({ name }) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
          </select>
        </label>
        {select('Flatcar release', release, targetsOf(index.extensions), 'release', channelOf)}
        {select('Architecture', arch, ARCHES, 'arch')}
        {select('Form', form, FORMS, 'form')}
        <label class="wide">
          URL from which nodes fetch
          <input type="url" value={url} onChange={({ currentTarget }) => set({ url: currentTarget.value })} />
        </label>
      </form>
      {x.length === 0 ? (
        <p>Add the extensions that the node gets.</p>
      ) : (
        <>
          <ul class="chosen">
            {x.map((word, at) => (
              <Chosen
                key={word.split('@')[0]}
                word={word}
                versions={index.extensions.find(({ name }) => name === word.split('@')[0])?.versions ?? []}
                change={(next) => set({ x: x.flatMap((one, position) => (position !== at ? [one] : next === undefined ? [] : [next])) })}
              />
            ))}
          </ul>
          <Show of={composed}>{(value) => <Result composed={value} form={form} />}</Show>
        </>
      )}
    </>
  );
}
