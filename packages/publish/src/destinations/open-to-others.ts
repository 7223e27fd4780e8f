import { lstat, readdir, readlink, realpath, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makePublic, mapParallel, messageOf, TEMPORARY, UserError, UserErrors, type Report } from '@flatcar/core/engine';

/** Limit of reported problems. */
const SHOWN = 5;

/** Folders and files at the root of a tree, besides the extensions' folders. */
const isOfTree = (name: string): boolean =>
  /^(?:(?:[0-9a-f]{64}\.)?index\.json|packages-[0-9a-f]{64}\.json|\.set-[0-9a-f]+|keys|metadata|redirects|(?:amd64|arm64)-usr)$/.test(name);

/** Opens the files of a tree, and collects what others cannot read. */
class Opening {
  readonly errors: UserError[] = [];

  /** Makes a path readable for everybody; false if it is gone or stays closed. */
  async open(path: string): Promise<boolean> {
    try {
      await makePublic(path, true);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false; // removed since it was listed
      if (error instanceof UserError) this.errors.push(error);
      else throw error;
      return false;
    }
  }

  /** Opens the wanted entries of a folder and all that is below them. */
  async walk(folder: string, wanted: (name: string) => boolean): Promise<void> {
    const entries = await readdir(folder, { withFileTypes: true }).catch((cause: unknown) => {
      this.errors.push(new UserError(`the folder cannot be read: ${messageOf(cause)}`, { where: folder, cause }));
      return [];
    });
    const current = await readlink(join(folder, '.current')).catch(() => undefined);
    // The caller holds the tree's lock: temporary files belong to processes that died.
    const isLeft = (name: string): boolean => TEMPORARY.test(name) || (/^\.set-[0-9a-f]+$/.test(name) && name !== current);
    await mapParallel(
      entries.filter(({ name }) => wanted(name)),
      async (entry) => {
        const path = join(folder, entry.name);
        if (isLeft(entry.name)) await rm(path, { recursive: true, force: true });
        else if (entry.isSymbolicLink()) await this.#checkLink(folder, entry.name);
        else if ((await this.open(path)) && entry.isDirectory()) await this.walk(path, () => true);
      },
      8,
    );
  }

  /** Sums and index are links into a folder beside them, which is walked as well. */
  async #checkLink(folder: string, name: string): Promise<void> {
    const path = join(folder, name);
    const leadsTo = (target: string): Promise<boolean> =>
      stat(target).then(
        () => true,
        () => false,
      );
    if (await leadsTo(path)) return;
    // A link to a file that an earlier version of this program left out of a set.
    if ((await readlink(path)) === `.current/${name}` && (await leadsTo(join(folder, '.current')))) {
      await rm(path, { force: true });
      return;
    }
    this.errors.push(
      new UserError('the link leads nowhere', { where: path, next: 'copy trees with their hidden files and links (rsync -a, cp -a)' }),
    );
  }

  /** Throws what others cannot read. */
  assertOpen(): void {
    const [first, ...others] = this.errors;
    if (first === undefined) return;
    if (others.length === 0) throw first;
    const more = this.errors.length > SHOWN ? `; the first ${SHOWN} are` : '';
    throw new UserErrors(
      `others cannot read ${this.errors.length} files and folders of the tree, nothing was published${more}`,
      this.errors.slice(0, SHOWN),
    );
  }
}

/**
 * Makes a published tree readable for everybody, whatever the umask of its writers, and refuses files of other users that others cannot read: a
 * web server would answer 403 for them. Checks the root, the tree's own files and the folders of `extensions`; other files below the root are
 * left alone. Removes temporary files of killed processes.
 */
export async function openToOthers(dir: string, extensions: readonly string[], report: Report = () => undefined): Promise<void> {
  const root = await realpath(dir); // the folder may be a link
  const opening = new Opening();
  if (await opening.open(root)) await opening.walk(root, (name) => isOfTree(name) || extensions.includes(name) || TEMPORARY.test(name));
  opening.assertOpen();
  for (let at = dirname(root); at !== dirname(at); at = dirname(at)) {
    const { mode } = await lstat(at);
    if ((mode & 0o001) === 0 && (mode & 0o170000) === 0o040000)
      report({
        type: 'notice',
        text: `${at}: others cannot enter this folder above the tree (mode ${(mode & 0o7777).toString(8)}): a web server of another user cannot serve it`,
      });
  }
}
