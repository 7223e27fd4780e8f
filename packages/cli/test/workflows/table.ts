import { readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { WorkflowRun } from './act.ts';
import type { World } from './world.ts';

const PAGE = join(resolve(import.meta.dirname, '../../../..'), 'docs/releases.md');

interface Seen {
  readonly images: ReadonlySet<string>;
  readonly issues: ReadonlySet<string>;
  readonly pulls: ReadonlySet<string>;
}

async function look(world: World): Promise<Seen> {
  const { issues, pulls } = world.github.state;
  const open = (all: readonly { state: string; title: string }[]): Set<string> =>
    new Set(all.filter(({ state }) => state === 'open').map(({ title }) => title));
  return { images: new Set((await world.published()).filter((path) => path.endsWith('.raw'))), issues: open(issues), pulls: open(pulls) };
}

const list = (words: Iterable<string>): string => [...words].toSorted().join(', ');

/** `plan, report: success; publish tool: failure`. */
function jobsOf({ jobs }: WorkflowRun): string {
  const results = Map.groupBy(jobs, ({ result }) => result);
  return (['success', 'failure', 'cancelled', 'skipped'] as const)
    .flatMap((result) => {
      const its = results.get(result) ?? [];
      return its.length === 0 ? [] : [`${list(its.map(({ job }) => job))}: ${result}`];
    })
    .join('; ');
}

/** `hardening 6, tool 6`. */
function imagesOf(before: Seen, after: Seen): string {
  const added = [...after.images.difference(before.images)];
  const counts = Map.groupBy(added, (path) => path.split('/')[0] ?? '');
  return list([...counts].map(([name, its]) => `${name} ${its.length}`));
}

function changesOf(before: Seen, after: Seen): string {
  const one = (what: string, titles: ReadonlySet<string>): string[] => (titles.size === 0 ? [] : [`${what}: ${list(titles)}`]);
  return [
    ...one('issue opened', after.issues.difference(before.issues)),
    ...one('issue closed', before.issues.difference(after.issues)),
    ...one('pull request opened', after.pulls.difference(before.pulls)),
    ...one('pull request closed', before.pulls.difference(after.pulls)),
  ].join('; ');
}

/** What runs of workflows did, as a table of docs/releases.md. */
export class RunTable {
  readonly #section: string;
  readonly #rows: string[] = [];

  constructor(section: string) {
    this.#section = section;
  }

  /** Starts a run and writes down what it did. */
  async run(world: World, title: string, start: () => Promise<WorkflowRun>): Promise<WorkflowRun> {
    const before = await look(world);
    const run = await start();
    const after = await look(world);
    this.#rows.push(`| ${[title, jobsOf(run), imagesOf(before, after), changesOf(before, after)].join(' | ')} |`);
    return run;
  }

  /** The table of the runs so far. */
  get text(): string {
    return ['| run | jobs | images published | issues and pull requests |', '|---|---|---|---|', ...this.#rows].join('\n');
  }

  /** The table that docs/releases.md has; with FLATCAR_EXT_WRITE_TABLE it is this one from now on. */
  async documented(): Promise<string> {
    const [begin, end] = [`<!-- runs of ${this.#section} -->`, `<!-- end of runs of ${this.#section} -->`];
    const text = await readFile(PAGE, 'utf8');
    const [head = '', rest = ''] = text.split(begin);
    const [is = '', tail = ''] = rest.split(end);
    if (!process.env['FLATCAR_EXT_WRITE_TABLE']) return is.trim();
    await writeFile(PAGE, `${head}${begin}\n${this.text}\n${end}${tail}`);
    return this.text;
  }
}
