import { useEffect, useState } from 'preact/hooks';

/** What the fragment of the URL selects: links keep the view and every choice. */
export interface Route {
  /** `''` is the list, `compose` the composer, anything else the extension of that name. */
  readonly view: string;
  readonly choice: URLSearchParams;
}

const parse = (hash: string): Route => {
  const [view = '', query = ''] = hash.replace(/^#\/?/, '').split('?');
  return { view: decodeURIComponent(view), choice: new URLSearchParams(query) };
};

/** The link of a view with choices; empty ones are left out. */
export function linkTo(view: string, choice: Readonly<Record<string, string | readonly string[]>> = {}): string {
  const query = new URLSearchParams(
    Object.entries(choice).flatMap(([key, value]) => [value].flat().flatMap((one) => (one === '' ? [] : [[key, one]]))),
  ).toString();
  return `#/${encodeURIComponent(view)}${query === '' ? '' : `?${query}`}`;
}

/** Changes the choices of the current view without a new entry in the history. */
export function choose(view: string, choice: Readonly<Record<string, string | readonly string[]>>): void {
  history.replaceState(undefined, '', linkTo(view, choice));
  dispatchEvent(new HashChangeEvent('hashchange'));
}

export function useRoute(): Route {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const update = (): void => setHash(location.hash);
    addEventListener('hashchange', update);
    return () => removeEventListener('hashchange', update);
  }, []);
  return parse(hash);
}
