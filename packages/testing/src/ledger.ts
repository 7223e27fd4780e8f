import { appendFile } from 'node:fs/promises';

/** Environment variable: the file in which `npm test` collects these lines; without it nothing is written. */
export const LEDGER = 'FLATCAR_EXT_TEST_LEDGER';

/** One thing that tests needed, such as an image, a Debian root or a stand-in. */
export interface LedgerEntry {
  readonly what: string;
  /** True if the store had it. */
  readonly cached: boolean;
  readonly seconds: number;
}

/** Records for the summary of `npm test` what came from the store, what was built, and how long that took. */
export async function record(what: string, cached: boolean, started: number): Promise<void> {
  const file = process.env[LEDGER] ?? '';
  if (file === '') return;
  const entry: LedgerEntry = { what, cached, seconds: (Date.now() - started) / 1000 };
  await appendFile(file, `${JSON.stringify(entry)}\n`); // one write of a short line: appends of many processes do not mix
}
