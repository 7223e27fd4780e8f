import { render, type JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { Catalogue } from './catalogue.tsx';
import { Composer } from './composer.tsx';
import { Extension } from './extension.tsx';
import { Show, useLoaded } from './load.tsx';
import { linkTo, useRoute } from './route.ts';
import { canVerify, PublishedTree } from './tree.ts';

const tree = new PublishedTree(new URL('.', location.href));
const TITLE = 'Flatcar extensions';

function App(): JSX.Element {
  const { view, choice } = useRoute();
  const index = useLoaded(() => tree.index(), []);
  const heading = useRef<HTMLHeadingElement>(null);
  const seen = useRef(view);
  const title = view === '' ? TITLE : view === 'compose' ? 'Compose a node' : view;
  useEffect(() => {
    document.title = view === '' ? TITLE : `${title} · ${TITLE}`;
    // A reader of the screen is told of the new view; not at the start, where the browser does it.
    if (seen.current !== view) heading.current?.focus();
    seen.current = view;
  }, [view]);
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), heading.current?.focus())}>
        Skip to the content
      </a>
      <header>
        <nav aria-label="Views">
          <a href={linkTo('')} aria-current={view === '' ? 'page' : undefined}>
            {TITLE}
          </a>
          <a href={linkTo('compose')} aria-current={view === 'compose' ? 'page' : undefined}>
            Compose a node
          </a>
        </nav>
      </header>
      <main id="main">
        <h1 ref={heading} tabIndex={-1}>
          {title}
        </h1>
        <Show of={index}>
          {(value) =>
            view === '' ? (
              <Catalogue index={value} choice={choice} />
            ) : view === 'compose' ? (
              <Composer tree={tree} index={value} query={choice} />
            ) : (
              <Extension tree={tree} name={view} />
            )
          }
        </Show>
      </main>
      <footer>
        <Show of={index}>
          {({ serial, baseUrl }) => (
            <p>
              Index {serial} of {baseUrl}.{' '}
              {canVerify()
                ? 'Everything shown has the digest that index.json lists; nodes and flatcar-ext also verify who signed it.'
                : 'Digests are not checked: browsers allow that to pages of HTTPS only.'}
            </p>
          )}
        </Show>
      </footer>
    </>
  );
}

const root = document.querySelector('#app');
if (root !== null) render(<App />, root);
