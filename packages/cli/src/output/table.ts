import { inLine, shownText } from '@flatcar/core/engine';

/** Columns are not made narrower than this to fit a terminal. */
const NARROWEST = 10;
const GAP = 2;

/** The widths of columns, of which the widest are made narrower until a line fits into `width` columns, as far as it can. */
function fitWidths(widths: readonly number[], width: number): number[] {
  const fitted = [...widths];
  const total = (): number => fitted.reduce((sum, one) => sum + one, GAP * (fitted.length - 1));
  while (total() > width) {
    const widest = Math.max(...fitted);
    if (widest <= NARROWEST) break;
    fitted[fitted.indexOf(widest)] = Math.max(NARROWEST, widest - Math.max(1, Math.ceil((total() - width) / fitted.length)));
  }
  return fitted;
}

/** Breaks the text of a cell after blanks and what separates words in paths and versions, or anywhere if it has none. */
function cellLines(text: string, width: number): string[] {
  const lines: string[] = [];
  let rest = text;
  while (rest.length > width) {
    const head = rest.slice(0, width + 1);
    const breakAt = Math.max(head.lastIndexOf(' '), ...['/', ',', ';', '-', '_'].map((mark) => head.slice(0, width).lastIndexOf(mark) + 1));
    const end = breakAt > width / 3 ? breakAt : width;
    lines.push(rest.slice(0, end).trimEnd());
    rest = rest.slice(end).trimStart();
  }
  return [...lines, rest];
}

/**
 * The lines of a table with aligned columns, each row as the lines that it takes. Cells are broken to fit into `width` columns. A line end in a
 * cell is escaped: it cannot look like a row.
 */
export function tableRows(cells: readonly (readonly string[])[], width = Infinity): string[] {
  const rows = cells.map((row) => row.map((cell) => shownText(inLine(cell), {})));
  const natural = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  const widths = fitWidths(natural, width);
  return rows.map((row) => {
    const columns = row.map((cell, column) => cellLines(cell, widths[column] ?? Infinity));
    const height = Math.max(1, ...columns.map((lines) => lines.length));
    return Array.from({ length: height }, (_, line) =>
      columns
        .map((lines, column) => (lines[line] ?? '').padEnd(widths[column] ?? 0))
        .join(' '.repeat(GAP))
        .trimEnd(),
    ).join('\n');
  });
}
