// What tests run on: a merged host, a root with one image, a booted machine.
import type { Arch, Release } from '@flatcar/core/engine';

/** A Debian whose os-release is that of a Flatcar release, in its own mount namespace. */
export interface Host {
  /** The host's root folder, as this process sees it. */
  readonly path: string;
  /** The command line on this machine that runs a command in the host's root. */
  commandLine(command: readonly string[]): string[];
  /** Installs an image on the host and links to it in the folder that systemd reads, as on a node. */
  install(image: string, link: string): Promise<void>;
  /** Removes a link. */
  remove(link: string): Promise<void>;
  /** Merges everything that is linked; returns the output of systemd-sysext. Its exit code is 0 even if it merges nothing, so tests check the output. */
  merge(options?: { force?: boolean; policy?: string }): Promise<string>;
  /** Undoes the merge; returns the output of systemd-sysext. */
  unmerge(): Promise<string>;
  /** Runs a program of the merged tree and returns its output; qemu-user runs programs for another architecture. */
  run(command: readonly string[], options?: { arch?: Arch; env?: Readonly<Record<string, string>> }): Promise<string>;
  /** Copies a file of the merged tree to this machine. */
  copyOut(path: string, to: string): Promise<void>;
  /** Copies a file of this machine onto the host. */
  copyIn(from: string, path: string): Promise<void>;
  /** Mounts a folder of this machine on the host. */
  share(from: string, path: string): Promise<void>;
  /** True if a path exists; links are followed. */
  exists(path: string): Promise<boolean>;
  /** Changes the release of the host, as an update and a reboot would. */
  setRelease(release: string): Promise<void>;
}

/** Where containers run: a host of the merge tests, or a booted machine. */
export interface ContainerHost {
  run(command: readonly string[]): Promise<string>;
  copyIn(from: string, path: string): Promise<void>;
}

/**
 * Where real uses run. `bare`: busybox, bash and the host's certificates, without a C library, locales and terminfo. `debian`: Debian 13 with the
 * os-release of Flatcar, the image merged by systemd-sysext. `emulated`: bare, with the image of the other architecture, by qemu-user.
 */
export type UseRootName = 'bare' | 'debian' | 'emulated';

/** A server on the loopback interface, which this machine and the host share, and its certificate for 127.0.0.1 and localhost. */
export interface TlsServer {
  readonly port: number;
  /** Answers every request with `hello over TLS`. */
  readonly url: string;
  /** Path on the host: the certificate followed by the intermediate one, in PEM; for servers of another protocol. */
  readonly certificate: string;
  /** Path on the host: its private key, in PEM. */
  readonly key: string;
}

/** A host whose store of CAs contains one more, as an operator adds it: in ca-certificates.crt, and as a file named by its hash. */
export interface TlsHost {
  /** An intermediate CA of the CA in the host's store signed its certificate. */
  readonly trusted: TlsServer;
  /** An intermediate CA of a CA that the host does not know signed its certificate. */
  readonly stranger: TlsServer;
  /** Path on the host: the CA in its store. */
  readonly ca: string;
}

/** A root with an extension's image merged. */
export interface UseRoot {
  readonly name: UseRootName;
  /** The root's folder, as this process sees it. */
  readonly path: string;
  /** The Debian root, in which a bare root is a folder: servers of its packages run there. Both share /run/tls and the network. */
  readonly host: Host;
  /** The root's folder in the Debian root: `/`, or the folder of the bare root. */
  readonly folder: string;
  /** The CA in the root's store (/etc/ssl/certs), a server that it signed and one that it did not; paths are those in the root, below /run/tls. */
  readonly tls: TlsHost;
  /** Runs a shell script in an empty folder, with `set -e`; returns both outputs. All its processes end with it, or after five minutes. */
  run(script: string, env?: Readonly<Record<string, string>>): Promise<{ said: string; exitCode: number | undefined }>;
  /** Starts a script that runs beside others, such as a server; `stop` ends it with all its processes and returns both outputs. */
  start(script: string, env?: Readonly<Record<string, string>>): { stop(): Promise<string> };
}

/** Both outputs of a command in the machine, in one text, and its exit code. */
export interface Answer {
  readonly code: number;
  readonly said: string;
}

/** A running machine. */
export interface Machine {
  readonly release: Release;
  readonly arch: Arch;
  /** Runs a bash script as root and returns its output; an exit code other than 0 is an error. */
  run(script: string, timeout?: number): Promise<string>;
  /** Runs a bash script, whatever its exit code. */
  ask(script: string, timeout?: number): Promise<Answer>;
  /** Repeats a script until it succeeds; returns its last output. */
  until(script: string, timeout?: number): Promise<string>;
  /** Copies a file of the host to a path in the machine. */
  copyIn(from: string, path: string): Promise<void>;
  /** Reboots with `systemctl reboot`. */
  reboot(): Promise<void>;
  /** Shuts the machine down and starts it with another /usr, as an update of the OS or its rollback does. */
  bootInto(release: Release): Promise<void>;
  /** What the kernel and systemd wrote to the serial console. */
  serial(): Promise<string>;
}
