// Stands in for actions/attest: at most 1024 subjects, none is an error, and the job needs the rights to sign.
import { appendFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { input, need, pathOf, run } from './toolkit.ts';

await run(async () => {
  if (process.env['STANDIN_ATTEST_FAILS'] !== undefined) throw new Error('Failed to persist attestation: 503 of Sigstore');
  const given = ['subject-path', 'subject-digest', 'subject-checksums'].filter((name) => input(name) !== '');
  if (given.length !== 1) throw new Error('One of subject-path, subject-digest, or subject-checksums must be provided');
  if (given[0] !== 'subject-checksums') throw new Error(`this stand-in knows subject-checksums only, not ${given[0] ?? ''}`);
  const text = await readFile(pathOf(input('subject-checksums')), 'utf8');
  if (text.length > 512 * 1024) throw new Error(`subject checksums file exceeds maximum allowed size: ${512 * 1024}`);
  const subjects = text.split('\n').filter((line) => line !== '');
  if (subjects.length === 0) throw new Error('Could not find subject');
  if (subjects.length > 1024) throw new Error('Too many subjects specified (>1024). The maximum number of subjects is 1024.');
  for (const line of subjects) if (!/^[0-9a-f]{64} [ *]\S+$/.test(line)) throw new Error(`not a line of sha256sum: ${line}`);
  await appendFile(join(need('STANDIN_STATE'), 'attested'), `${subjects.join('\n')}\n`);
  console.log(`${subjects.length} subjects attested`);
});
