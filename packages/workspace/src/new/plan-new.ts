import type { UpstreamContext } from '@flatcar/upstream';
import { planOwnFiles } from './plan-own-files.ts';
import { planPackages } from './plan-packages.ts';
import { planUpstream } from './plan-upstream.ts';
import type { Plan } from './plan.ts';
import type { Prompter } from './prompter.ts';
import type { NewRequest } from './request.ts';

/** Finds out, proposes and prompts for everything that a new extension is written from. Writes nothing. */
export function planNew(request: NewRequest, prompter: Prompter, context: UpstreamContext): Promise<Plan> {
  switch (request.origin) {
    case 'files':
      return planOwnFiles(request, prompter);
    case 'packages':
      return planPackages(request, prompter, context);
    case 'upstream':
      return planUpstream(request, prompter, context);
  }
}
