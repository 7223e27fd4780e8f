// What the catalogue page shares with the commands: the parts of core that need nothing of Node.
export * from './model/arch.ts';
export { brandedBy, type ImageVersion, type TargetName, type UpstreamVersion } from './model/brands.ts';
export { differenceBetween, type Difference, type FileChange, type ImageContent } from './model/difference.ts';
export * from './model/names.ts';
export { nearest } from './model/nearest.ts';
export type { Payload } from './model/payload.ts';
export { LATEST, matchingVersions, parseRef, type ExtensionRef } from './model/ref.ts';
export * from './model/target.ts';
export * from './model/versions.ts';
export { UsageError, UserError, UserErrors } from './util/errors.ts';
export { parseJson } from './util/json.ts';
export { formatBytes } from './util/format-bytes.ts';
