import { between, source } from './elsewhere.ts';
import { hostFiles } from './host.ts';
import { layout } from './layout.ts';
import { leftovers } from './leftovers.ts';
import { programs } from './programs.ts';
import { releaseFile } from './release-file.ts';
import type { Rule, RuleText } from './rule.ts';
import { scripts } from './scripts.ts';
import { tmpfiles } from './tmpfiles.ts';
import { unitValues } from './unit-values.ts';
import { units } from './units.ts';

/** Rules about a staged tree or a finished image, by their id. */
export const IMAGE_RULES: Readonly<Record<string, Rule>> = {
  ...layout,
  ...leftovers,
  ...hostFiles,
  ...programs,
  ...scripts,
  ...units,
  ...unitValues,
  ...tmpfiles,
  ...releaseFile,
};

/** Everything that can be reported, by its id. */
export const RULES: Readonly<Record<string, RuleText>> = { ...IMAGE_RULES, ...between, ...source };
