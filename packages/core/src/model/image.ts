import type { Arch } from './arch.ts';
import type { ImageVersion, TargetName } from './brands.ts';
import type { Format, Target } from './target.ts';

/** The fields of an image's release file; see release-file.ts. */
export interface ReleaseFileFields {
  readonly name: string;
  readonly kind: 'sysext' | 'confext';
  readonly version: string;
  readonly arch: Arch;
  readonly target: Target;
  readonly reload: boolean;
}

/** One entry in the file system of a finished image. */
export interface ImageEntry {
  readonly path: string;
  readonly type: 'file' | 'dir' | 'link' | 'char' | 'block' | 'fifo' | 'socket';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** In bytes; 0 for everything but files. */
  readonly size: number;
  readonly link?: string;
  readonly xattrs: Readonly<Record<string, string>>;
}

/** A finished image. */
export interface Image {
  readonly extension: string;
  readonly kind: 'sysext' | 'confext';
  readonly version: ImageVersion;
  readonly arch: Arch;
  readonly format: Format;
  /** `portable` or the release number. */
  readonly target: TargetName;
  /** Absolute path of the .raw. */
  readonly file: string;
  readonly sha256: string;
  readonly sha512: string;
  readonly size: number;
  /** Key of its payload. */
  readonly payload: string;
  /** Of DDIs only, lowercase hex. */
  readonly roothash?: string;
  /** True when the DDI carries a roothash signature. */
  readonly signed?: boolean;
}
