import { join } from 'node:path';
import { openStore, type Environment, type Store } from '@flatcar/core/engine';
import type { FileAbout, Tree } from '../tree/tree.ts';
import { ConflictError, TakenError, type Destination } from './destination.ts';
import { Bucket, namesOf, type BucketObject } from './s3-bucket.ts';

/** Age from which an unlisted file belongs to a publish that died: a publish uploads the images of one extension in less. */
const ABANDONED_MS = 15 * 60_000;

/** A tree in a bucket; see `s3Destination`. */
class S3Destination implements Destination {
  readonly where: string;
  readonly locks = false;
  readonly #bucket: Bucket;
  readonly #store: Store;
  /**
   * Tags of files as this publish first read them, or last wrote them; undefined for files that did not exist. What it writes may follow from
   * the first read, so a later one that finds another tag is no reason to replace that.
   */
  readonly #tags = new Map<string, string | undefined>();

  constructor(where: string, bucket: Bucket, store: Store) {
    this.where = where;
    this.#bucket = bucket;
    this.#store = store;
  }

  async publish<T>(fn: (staging: string) => Promise<T>): Promise<T> {
    return this.#store.withTemp(async (temp) => {
      this.#tags.clear();
      return fn(temp);
    });
  }

  async read(path: string, limit?: number): Promise<Buffer | undefined> {
    const object = await this.#bucket.read(path, limit);
    if (!this.#tags.has(path)) this.#tags.set(path, object?.tag);
    return object?.bytes;
  }

  async put(path: string, file: string, about: FileAbout): Promise<void> {
    const other = await this.#putUnlessPresent(path, file, about);
    if (other !== undefined) throw new TakenError(this.#bucket.urlOf(path), path);
  }

  async putOver(path: string, file: string, about: FileAbout): Promise<void> {
    const other = await this.#putUnlessPresent(path, file, about);
    if (other === undefined) return;
    const url = this.#bucket.urlOf(path);
    if (other.age < ABANDONED_MS)
      throw new ConflictError(
        url,
        `from a publish that is running or died ${Math.round(other.age / 1000)} s ago; it is replaced when it is ${ABANDONED_MS / 60_000} minutes old`,
      );
    if (!(await this.#bucket.upload(path, file, about, { 'if-match': other.tag }))) throw new ConflictError(url);
  }

  /** Uploads a file whose name is free. Returns the object under the name if it has other bytes. */
  async #putUnlessPresent(path: string, file: string, about: FileAbout): Promise<BucketObject | undefined> {
    // Most files of a large tree exist already: a HEAD costs less than an upload.
    let present = await this.#bucket.stat(path);
    if (present === undefined) {
      if (await this.#bucket.upload(path, file, about, { 'if-none-match': '*' })) return undefined;
      present = await this.#bucket.stat(path);
      if (present === undefined) throw new ConflictError(this.#bucket.urlOf(path));
    }
    if (present.size !== about.size || (await this.#bucket.sha256(path, about.size)) !== about.sha256) return present;
    await this.#bucket.completeNames(path);
    return undefined;
  }

  /** Every file of `put` is visible at once. */
  async flush(): Promise<void> {}

  async replace(folder: string, files: ReadonlyMap<string, Buffer>): Promise<void> {
    for (const [name, bytes] of files) {
      const path = folder === '' ? name : `${folder}/${name}`;
      if (!this.#tags.has(path)) await this.read(path);
      const written = await this.#bucket.replace(path, bytes, this.#tags.get(path));
      if (written === 'changed') throw new ConflictError(this.#bucket.urlOf(path));
      this.#tags.set(path, written.tag);
    }
  }

  /** A bucket without an index may be a typo: a first publish must be specified. */
  async isNew(): Promise<undefined> {
    return undefined;
  }

  /** Whether others can read a bucket is its owner's policy. */
  async openToOthers(): Promise<void> {}

  tree(store: Store): Tree {
    return {
      where: this.where,
      read: (path, limit) => this.read(path, limit),
      file: async (path, { size, sha256 }) =>
        (await store.blob(sha256)) ??
        store.withTemp(async (temp) => {
          const file = join(temp, sha256);
          await this.#bucket.download(path, size, file);
          return (await store.keep(file, sha256)).path;
        }),
    };
  }

  async remove(paths: readonly string[]): Promise<void> {
    for (const path of paths.flatMap(namesOf)) await this.#bucket.remove(path);
  }
}

/**
 * A bucket of S3 or of a compatible service (AWS_ENDPOINT_URL). A bucket cannot lock: files are replaced only if they are still as they were
 * read (If-Match), and names are taken only if they are free (If-None-Match), so that two publishers cannot undo each other. Sums and
 * signature are two objects: a client that reads between them sees a signature that does not match, refuses it, and tries again.
 */
export function s3Destination(
  where: string,
  env: Environment = process.env,
  store: Store = openStore(),
  signal?: AbortSignal,
): Destination {
  return new S3Destination(where, new Bucket(where, env, signal), store);
}
