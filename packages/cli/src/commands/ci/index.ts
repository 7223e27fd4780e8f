import type { Command } from 'commander';
import { addHelp } from '../../help.ts';
import { addBind } from './bind.ts';
import { addBuild } from './build.ts';
import { addPlan } from './plan.ts';
import { addPublish } from './publish.ts';
import { addRebuild } from './rebuild.ts';
import { addReport } from './report.ts';
import { addTest } from './test.ts';
import { addUpdate } from './update.ts';

/** `ci`: the steps of the workflows. */
export function addCi(root: Command, signal: AbortSignal): void {
  const ci = root.command('ci').description('run the steps of the workflows in .github/, on any machine');
  addHelp(ci, {
    text: [
      'A release is planned, built per extension and architecture, bound and signed, and published. An extension that fails stops no other; the next run tries it again.',
    ],
    examples: [
      'flatcar-ext ci plan hardening --out matrix.json',
      'flatcar-ext ci build --matrix matrix.json',
      'flatcar-ext ci publish --matrix matrix.json --tree /srv/extensions --keys ~/dev-keys --base-url https://extensions.example.org',
    ],
  });
  addPlan(ci);
  addBuild(ci, signal);
  addBind(ci, signal);
  addPublish(ci, signal);
  addUpdate(ci, signal);
  addRebuild(ci, signal);
  addReport(ci);
  addTest(ci, signal);
}
