import type { Payload } from '@flatcar/core/browser';
import { KEYS, payloadPath, urlPath } from '@flatcar/publish/tree/layout';
import type { ExtensionIndex, Index, PublishedVersion } from '@flatcar/publish/tree/schema';

/** The tree cannot be read, or a file is not the one that the index lists. */
export class TreeError extends Error {}

/** True if this page can compute digests: browsers offer that to pages of HTTPS and of this machine only. */
export const canVerify = (): boolean => globalThis.crypto?.subtle !== undefined;

const hexOf = (bytes: ArrayBuffer): string => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, '0')).join('');

/** The published tree that this page is part of. Files are read once, and refused if they do not have the digest that the index lists. */
export class PublishedTree {
  readonly #root: URL;
  readonly #files = new Map<string, Promise<unknown>>();

  constructor(root: URL) {
    this.#root = root;
  }

  async #bytes(path: string, sha256?: string): Promise<ArrayBuffer> {
    // The page is a part of the tree: it reads relative to itself. The index changes, and all other names contain a digest.
    const response = await fetch(new URL(urlPath(path), this.#root), { cache: sha256 === undefined ? 'no-cache' : 'default' });
    if (!response.ok) throw new TreeError(`${path}: the server answered ${response.status}`);
    const bytes = await response.arrayBuffer();
    if (sha256 === undefined || !canVerify()) return bytes;
    const actual = hexOf(await crypto.subtle.digest('SHA-256', bytes));
    if (actual !== sha256) throw new TreeError(`${path}: its digest is ${actual}, and the index lists ${sha256}`);
    return bytes;
  }

  #json<T>(path: string, sha256?: string): Promise<T> {
    const known = this.#files.get(path);
    if (known !== undefined) return known as Promise<T>;
    const read = this.#bytes(path, sha256).then((bytes) => JSON.parse(new TextDecoder().decode(bytes)) as T);
    this.#files.set(path, read);
    return read;
  }

  index(): Promise<Index> {
    return this.#json('index.json');
  }

  async extension(name: string): Promise<ExtensionIndex | undefined> {
    const entry = (await this.index()).extensions.find((one) => one.name === name);
    return entry === undefined ? undefined : this.#json(entry.path, entry.sha256);
  }

  /** The record of a version's payload for `<architecture> <format>`: files, components with their origin, and what they were checked by. */
  async payload(name: string, { payloads }: PublishedVersion, slot: string): Promise<Payload | undefined> {
    const listed = payloads[slot];
    return listed === undefined ? undefined : this.#json(payloadPath(name, listed.key), listed.record);
  }

  /** The keys that verify sums on nodes. */
  async keyring(): Promise<Uint8Array> {
    const listed = (await this.index()).keys.find(({ path }) => path === KEYS.keyring);
    return new Uint8Array(await this.#bytes(KEYS.keyring, listed?.sha256));
  }
}
