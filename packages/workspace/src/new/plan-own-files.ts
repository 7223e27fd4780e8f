import { basename } from 'node:path';
import { PLAIN_VERSION, UserError } from '@flatcar/core/engine';
import { today } from './new-version.ts';
import type { Plan } from './plan.ts';
import { planService } from './plan-service.ts';
import { promptSummary, type Prompter } from './prompter.ts';
import type { OwnFilesRequest } from './request.ts';

/** A plan of an extension of own files: nothing comes from upstream, and the version is a date. */
export async function planOwnFiles(request: OwnFilesRequest, prompter: Prompter): Promise<Plan> {
  const { name, version = today(), unit, files: own } = request;
  if (!PLAIN_VERSION.test(version))
    throw new UserError(`'${version}' is not a valid version`, { next: `the version of own files is a date: --version ${today()}` });
  const summary = await promptSummary(request, prompter);
  const shipped = own.find(({ path }) => path === `usr/lib/systemd/system/${unit?.exec ?? ''}`);
  const { data: _data, ...service } =
    shipped === undefined
      ? planService(request, summary, undefined, prompter)
      : { data: [], unit: { name: basename(shipped.path), text: shipped.text }, machine: { active: [basename(shipped.path)] } };
  const readme = { path: `usr/share/${name}/README`, text: `${summary}\n` };
  const isEmpty = own.length === 0 && unit === undefined;
  if (isEmpty)
    prompter.note(
      `put the files of the image below files/, with the paths of the image (usr/bin, usr/lib/systemd/system); ${readme.path} is a placeholder`,
    );
  return {
    name,
    version,
    track: 'newest',
    programs: own.flatMap(({ path }) => /^usr\/bin\/([^/]+)$/.exec(path)?.[1] ?? []),
    summary,
    license: '',
    own: [...own, ...(isEmpty ? [readme] : [])].map(({ path }) => path),
    ...service,
    files: isEmpty ? [readme] : service.files,
  };
}
