// Preloaded into a process (node --import): writes what it changes on the disk, in order, into the file that SYNC_LOG names, a line of JSON each.
// `sync` is fsync(2); `name` is a name that a folder gets, by whatever call; `ino` is the inode that it is about.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { dirname } from 'node:path';

const log = fs.openSync(process.env['SYNC_LOG'] ?? '/dev/null', 'a');
const say = (event: object): void => void fs.writeSync(log, `${JSON.stringify(event)}\n`);
const inode = (path: string): number => fs.lstatSync(path).ino;
const named = (path: string): void => say({ event: 'name', path, ino: inode(path), folder: inode(dirname(path)) });

const promises = fs.promises as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
const { open, rename, link, symlink, mkdir, copyFile } = promises as Record<string, (...args: unknown[]) => Promise<unknown>>;
for (const [name, call] of Object.entries({ rename, link, symlink }))
  promises[name] = async (...args) => {
    await call?.(...args);
    named(String(args[1]));
  };
promises['mkdir'] = async (...args) => {
  const made = await mkdir?.(...args);
  named(String(args[0]));
  return made;
};
promises['copyFile'] = async (...args) => {
  await copyFile?.(...args);
  say({ event: 'write', path: args[1], ino: inode(String(args[1])) });
};
promises['open'] = async (...args) => {
  const handle = (await open?.(...args)) as fs.promises.FileHandle;
  const path = String(args[0]);
  const sync = handle.sync.bind(handle);
  const ino = (await handle.stat()).ino;
  handle.sync = async () => {
    await sync();
    say({ event: 'sync', path, ino });
  };
  if (args[1] !== undefined && args[1] !== 'r') say({ event: 'write', path, ino });
  return handle;
};
syncBuiltinESMExports();
