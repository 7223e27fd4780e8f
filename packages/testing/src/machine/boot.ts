// What is booted, whichever operating system it is.
import type { Arch, Release } from '@flatcar/core/engine';

/** What to boot, and a folder for its files. */
export interface BootOptions {
  readonly release: Release;
  readonly arch: Arch;
  readonly network: boolean;
  readonly temp: string;
}

/** An operating system, ready for one machine. */
export interface Boot extends AsyncDisposable {
  /** QEMU's arguments for a start, with the /usr of a release. */
  args(release: Release): Promise<readonly string[]>;
  /** True if it starts by its own boot loader, for which arm64's board needs firmware. */
  readonly firmware: boolean;
  /** Arguments of a start that changes no file, and what its console shows once the guest really runs. */
  readonly probe: { readonly args: readonly string[]; readonly shows: RegExp };
}
