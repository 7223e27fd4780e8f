// Stands in for actions/cache: restores, and unless the key was hit saves after the job.
import { restore } from './cache.ts';
import { run, saveState } from './toolkit.ts';

await run(async () => saveState('hit', String(restore())));
