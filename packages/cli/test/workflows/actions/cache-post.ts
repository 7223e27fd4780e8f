import { save } from './cache.ts';
import { run } from './toolkit.ts';

await run(async () => {
  if (process.env['STATE_hit'] !== 'true') save();
});
