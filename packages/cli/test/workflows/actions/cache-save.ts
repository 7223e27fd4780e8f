import { save } from './cache.ts';
import { run } from './toolkit.ts';

await run(async () => save());
