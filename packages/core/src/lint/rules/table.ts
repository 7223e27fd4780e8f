import { between, source } from './elsewhere.ts';
import { dropins } from './dropins.ts';
import { hostFiles } from './host.ts';
import { layout } from './layout.ts';
import { leftovers } from './leftovers.ts';
import { programs } from './programs.ts';
import { releaseFile } from './release-file.ts';
import type { Rule, RuleText } from './rule.ts';
import { scripts } from './scripts.ts';
import { tmpfiles } from './tmpfiles.ts';
import { unitPrograms } from './unit-programs.ts';
import { unitSyntax } from './unit-syntax.ts';
import { unitUsers } from './unit-users.ts';
import { unitValues } from './unit-values.ts';

/** Rules about a staged tree or a finished image, by their id. */
export const IMAGE_RULES: Readonly<Record<string, Rule>> = {
  ...layout,
  ...leftovers,
  ...hostFiles,
  ...programs,
  ...scripts,
  ...unitSyntax,
  ...unitPrograms,
  ...unitUsers,
  ...dropins,
  ...unitValues,
  ...tmpfiles,
  ...releaseFile,
};

/** Every rule that a finding may name, by its id: `explain` lists them. */
export const RULES: Readonly<Record<string, RuleText>> = { ...IMAGE_RULES, ...between, ...source };
