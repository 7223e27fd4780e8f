import { daemonOf, serviceOf, type Daemon } from './daemon.ts';
import type { PackagesFound } from './inspect-packages.ts';
import { serviceText } from './package-files.ts';
import type { Plan } from './plan.ts';
import type { Prompter } from './prompter.ts';
import type { ServiceRequest } from './request.ts';

/** The service of a plan, and the data files of packages that it needs. */
export type PlannedService = Pick<Plan, 'unit' | 'files' | 'machine'> & { readonly data: readonly string[] };

/** A service for a command, or the service of packages with everything that their maintainer scripts would do for it. */
export function planService(
  { name, unit }: { readonly name: string; readonly unit?: ServiceRequest | undefined },
  summary: string,
  packages: PackagesFound | undefined,
  prompter: Prompter,
): PlannedService {
  if (unit === undefined) return { data: [] };
  const { exec, condition } = unit;
  const isPackaged = packages !== undefined && exec.endsWith('.service');
  const command = exec.startsWith('/') ? exec : `/usr/bin/${exec}`;
  const text = isPackaged ? serviceOf(packages, exec) : serviceText(summary, { exec: command, condition });
  const service = {
    name: isPackaged ? exec : `${name}.service`,
    text: isPackaged && condition !== undefined ? text.replace('[Unit]\n', `$&ConditionPathExists=${condition}\n`) : text,
  };
  const daemon: Daemon = packages === undefined ? { unit: service, files: [], data: [], notes: [] } : daemonOf(name, service, packages);
  for (const note of daemon.notes) prompter.note(note);
  const isCopied = daemon.files.some((file) => condition !== undefined && file.text.includes(` ${condition} `));
  const missing = condition === undefined || isCopied ? undefined : condition;
  if (missing !== undefined)
    prompter.note(`the machine test writes an empty ${missing}: replace it in test/extension.test.ts with what the service needs`);
  return {
    unit: daemon.unit,
    files: daemon.files,
    data: daemon.data,
    machine: {
      active: [daemon.unit.name],
      runsAs: daemon.user === undefined ? undefined : { [daemon.unit.name]: daemon.user },
      files: missing === undefined ? undefined : { [missing]: '' },
    },
  };
}
