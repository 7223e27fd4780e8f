import type { PublishKeys, Trust } from '../../src/index.ts';

/** What clients of a publisher trust: the newest root of its keys. */
export const trustOf = ({ metadata }: PublishKeys): Trust => ({ root: metadata.roots.at(-1) });
