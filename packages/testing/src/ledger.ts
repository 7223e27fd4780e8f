import { appendFile } from 'node:fs/promises';

/** Names the file that `npm test` collects these lines in; without it nothing is written. */
export const LEDGER = 'FLATCAR_EXT_TEST_LEDGER';

/** One thing that tests needed: an image, a Debian root, a stand-in. */
export interface LedgerEntry {
  readonly what: string;
  /** True when the store had it. */
  readonly cached: boolean;
  readonly seconds: number;
}

/** Records for the summary of `npm test` what came from the store and what was made, and how long that took. */
export async function record(what: string, cached: boolean, started: number): Promise<void> {
  const file = process.env[LEDGER] ?? '';
  if (file === '') return;
  const entry: LedgerEntry = { what, cached, seconds: (Date.now() - started) / 1000 };
  await appendFile(file, `${JSON.stringify(entry)}\n`); // one write of a short line: appends of many processes do not mix
}
