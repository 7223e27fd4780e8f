import type { Command } from 'commander';
import { addBind } from './bind.ts';
import { addBuild } from './build.ts';
import { addPlan } from './plan.ts';
import { addPublish } from './publish.ts';
import { addReport } from './report.ts';
import { addTest } from './test.ts';
import { addUpdate } from './update.ts';

/** `ci`: the steps of the workflows, each of which runs on a laptop just as well. */
export function addCi(root: Command, signal: AbortSignal): void {
  const ci = root
    .command('ci')
    .description('the steps of the workflows in .github/, to be run anywhere')
    .addHelpText(
      'after',
      `
A release: what is missing is planned, built per extension and architecture, bound and signed, published; each extension fails alone, and is tried again by the next run.

Examples:
  flatcar-ext plan --published https://extensions.example.org --keyring keys.gpg --matrix >matrix.json
  flatcar-ext ci build --job "$(jq -c '.include[0]' matrix.json)" --out payloads --outcomes outcomes
  flatcar-ext ci bind --matrix matrix.json --payloads payloads --out images --outcomes outcomes --keys ~/dev-keys
  flatcar-ext ci publish images --to /srv/extensions --outcomes outcomes --keys ~/dev-keys --base-url https://extensions.example.org
  flatcar-ext ci report outcomes`,
    );

  addPlan(ci);
  addBuild(ci, signal);
  addBind(ci, signal);
  addPublish(ci, signal);
  addUpdate(ci, signal);
  addReport(ci);
  addTest(ci, signal);
}
