import type { Arch } from './arch.ts';

/** How a payload is packed: a bare squashfs, or a disk image (GPT: erofs, dm-verity, optional signature). */
export type Format = 'squashfs' | 'ddi';

/** A Flatcar release and what a node running it can do. */
export interface Release {
  /** Such as `4593.2.5`. */
  readonly number: string;
  readonly channel: 'alpha' | 'beta' | 'stable' | 'lts';
  /** ISO date, `2026-08-13`. */
  readonly date: string;
  readonly arches: readonly Arch[];
  /** Full version, such as `6.12.102`. */
  readonly kernel: string;
  /** As exact as known: `257.9` or `257`. */
  readonly systemd: string;
  /** Such as `2.41`; with `estimated`, the last one known for an older major. */
  readonly glibc: string;
  /** Of the built-in extension containerd, such as `2.1.5`; undefined if it is not known. */
  readonly containerd?: string;
  /** True where glibc, systemd minor and file systems are those of the newest known older major. */
  readonly estimated: boolean;
  /** `final`: merged by systemd-sysext.service; `initrd`: merged before switch-root (majors >= 4628). */
  readonly mergeStage: 'system' | 'initrd';
  /** Image file systems the kernel can mount, such as `squashfs`, `erofs`. */
  readonly filesystems: readonly string[];
  /** The one format that images bound to this release have. */
  readonly format: Format;
}

/** What an image is bound to: any distribution, or one Flatcar release. */
export type Target = 'portable' | Release;
