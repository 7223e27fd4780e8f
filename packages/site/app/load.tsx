import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';

/** A value that is being read, or why it could not be. */
export type Loaded<T> = { readonly value: T } | { readonly error: string } | undefined;

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Reads a value whenever `inputs` change; a slower former read does not replace a later one. */
export function useLoaded<T>(read: () => Promise<T>, inputs: readonly unknown[]): Loaded<T> {
  const [loaded, setLoaded] = useState<Loaded<T>>(undefined);
  useEffect(() => {
    let isCurrent = true;
    const set = (next: Loaded<T>): void => {
      if (isCurrent) setLoaded(next);
    };
    set(undefined);
    read().then(
      (value) => set({ value }),
      (error: unknown) => set({ error: messageOf(error) }),
    );
    return () => {
      isCurrent = false;
    };
  }, inputs);
  return loaded;
}

/** Shows what was read. */
export function Show<T>({ of, children }: { of: Loaded<T>; children: (value: T) => ComponentChildren }): JSX.Element {
  if (of === undefined) return <p role="status">Loading…</p>;
  if ('error' in of)
    return (
      <p role="alert" class="error">
        {of.error}
      </p>
    );
  return <>{children(of.value)}</>;
}
