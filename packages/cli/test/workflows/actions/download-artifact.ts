// Stands in for actions/download-artifact: a name that is missing is an error, a pattern without a match is not; each artifact has a folder of
// its name, unless one alone matches or merge-multiple is set.
import { cp, readdir } from 'node:fs/promises';
import { join, matchesGlob } from 'node:path';
import { artifactsDir } from './artifacts.ts';
import { input, output, pathOf, run } from './toolkit.ts';

await run(async () => {
  const dies = process.env['STANDIN_DOWNLOAD_DIES'];
  if (dies !== undefined && input('pattern').includes(dies)) throw new Error('The runner has received a shutdown signal');
  const to = pathOf(input('path') || '.');
  const all = (await readdir(artifactsDir()).catch(() => [])).toSorted();
  const name = input('name');
  if (name !== '' && !all.includes(name)) throw new Error(`Unable to download artifact(s): Artifact not found for name: ${name}`);
  const wanted = name !== '' ? [name] : all.filter((one) => input('pattern') === '' || matchesGlob(one, input('pattern')));
  const together = name !== '' || input('merge-multiple') === 'true' || wanted.length === 1;
  for (const one of wanted) {
    console.log(`- ${one}`);
    await cp(join(artifactsDir(), one), together ? to : join(to, one), { recursive: true });
  }
  console.log(`Total of ${wanted.length} artifact(s) downloaded`);
  output('download-path', to);
});
