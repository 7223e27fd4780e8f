import { enableCompileCache } from 'node:module';

enableCompileCache();

// A umask that takes rights from the owner makes folders that only root can use; what it takes from others stays.
process.umask(process.umask(0o022) & 0o077);

// Commander, undici and other libraries take an empty variable for a set one.
const { dropEmpty } = await import('@flatcar/core/engine');
dropEmpty(process.env);

const { run } = await import('./run.ts');
process.exitCode = await run(process.argv.slice(2));
// What an interrupted command left waiting (a connection, a pause) must not hold the process.
if (process.exitCode > 128) setTimeout(() => process.exit(), 100).unref();
