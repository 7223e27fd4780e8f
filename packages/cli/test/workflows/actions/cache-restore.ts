import { restore } from './cache.ts';
import { run } from './toolkit.ts';

await run(async () => void restore());
