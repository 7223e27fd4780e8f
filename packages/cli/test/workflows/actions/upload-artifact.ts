// Stands in for actions/upload-artifact: the same root of several paths, the same files left out, the same names refused; modes are lost.
import { createHash } from 'node:crypto';
import { chmod, copyFile, glob, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { filesBelow, newArtifact, rootOf } from './artifacts.ts';
import { input, lines, output, pathOf, run } from './toolkit.ts';

/** What a build that was taken over does: its payload has another last byte, and its record is true of that. */
async function forge(record: string): Promise<void> {
  const payload = JSON.parse(await readFile(record, 'utf8')) as { file: string };
  const file = join(dirname(record), payload.file);
  const bytes = await readFile(file);
  bytes.writeUInt8((bytes.at(-1) ?? 0) ^ 1, bytes.length - 1);
  await writeFile(file, bytes);
  await writeFile(record, JSON.stringify({ ...payload, sha256: createHash('sha256').update(bytes).digest('hex') }));
}

await run(async () => {
  const searchPaths: string[] = [];
  const files: string[] = [];
  for (const pattern of lines('path').map(pathOf)) {
    const fixed = pattern
      .split('/')
      .slice(
        0,
        Math.max(
          0,
          pattern.split('/').findIndex((part) => /[*?[{]/.test(part)),
        ),
      )
      .join('/');
    searchPaths.push(fixed === '' ? pattern : fixed);
    for await (const match of fixed === '' ? [pattern] : glob(pattern)) files.push(...(await filesBelow(match)));
  }
  if (files.length === 0) {
    const text = `No files were found with the provided path: ${input('path')}. No artifacts will be uploaded.`;
    if (input('if-no-files-found') === 'error') throw new Error(text);
    if (input('if-no-files-found') !== 'ignore') console.log(`::warning::${text}`);
    return;
  }
  const dir = await newArtifact(input('name') || 'artifact');
  const root = rootOf(searchPaths, files);
  for (const file of new Set(files)) {
    const name = relative(root, file);
    if (/[":<>|*?\r\n]/.test(name)) throw new Error(`The path for one of the files in artifact is not valid: ${name}`);
    await mkdir(dirname(join(dir, name)), { recursive: true });
    await copyFile(file, join(dir, name));
    await chmod(join(dir, name), 0o644);
  }
  if (process.env['STANDIN_FORGED_ARTIFACT'] === input('name'))
    for (const file of files.filter((one) => one.endsWith('.payload.json'))) await forge(join(dir, relative(root, file)));
  console.log(`Artifact ${input('name')} has been successfully uploaded: ${files.length} files, relative to ${root}`);
  output('artifact-id', '1');
});
