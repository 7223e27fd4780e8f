// What tests run on: a merged host, a root with one image, a booted machine.
import type { Arch, Release } from '@flatcar/core/engine';

/** A Debian that calls itself a Flatcar release, in a mount namespace of its own. */
export interface Host {
  /** The host's root folder, as this process sees it. */
  readonly path: string;
  /** The command line on this machine that runs a command in the host's root. */
  commandLine(command: readonly string[]): string[];
  /** Puts an image on the host and links to it where systemd looks for it, as nodes have it. */
  install(image: string, link: string): Promise<void>;
  /** Takes a link away again. */
  remove(link: string): Promise<void>;
  /** Merges all that is linked; gives what systemd-sysext says. Its exit code lies, so its words are what counts. */
  merge(options?: { force?: boolean; policy?: string }): Promise<string>;
  /** Takes the merge back; gives what systemd-sysext says. */
  unmerge(): Promise<string>;
  /** Runs a program of the merged tree and gives all it says; programs for another architecture run by qemu-user. */
  run(command: readonly string[], options?: { arch?: Arch; env?: Readonly<Record<string, string>> }): Promise<string>;
  /** Copies a file of the merged tree to this machine. */
  copyOut(path: string, to: string): Promise<void>;
  /** Copies a file of this machine onto the host. */
  copyIn(from: string, path: string): Promise<void>;
  /** Shows a folder of this machine on the host. */
  share(from: string, path: string): Promise<void>;
  /** True when a path is there, links followed. */
  exists(path: string): Promise<boolean>;
  /** Makes the host another release, as an update and a reboot would. */
  setRelease(release: string): Promise<void>;
}

/** Where containers run: a host of the merge tests, or a booted machine. */
export interface ContainerHost {
  run(command: readonly string[]): Promise<string>;
  copyIn(from: string, path: string): Promise<void>;
}

/**
 * Where real uses run. `bare`: busybox, bash and the host's certificates, neither a C library nor locales nor terminfo. `debian`: Debian 13 with the
 * os-release of Flatcar, the image merged by systemd-sysext. `emulated`: bare, with the image of the other architecture, by qemu-user.
 */
export type UseRootName = 'bare' | 'debian' | 'emulated';

/** A server on this machine's loopback, which the host shares, and its certificate for 127.0.0.1 and localhost. */
export interface TlsServer {
  readonly port: number;
  /** Answers every request with `hello over TLS`. */
  readonly url: string;
  /** Path on the host: the certificate with the intermediate one behind it, in PEM; for servers of another protocol. */
  readonly certificate: string;
  /** Path on the host: its private key, in PEM. */
  readonly key: string;
}

/** A host whose store of CAs has one of its own more, as an operator adds it: in ca-certificates.crt, and by its hash beside that. */
export interface TlsHost {
  /** Its certificate comes, by an intermediate CA, from the CA in the host's store. */
  readonly trusted: TlsServer;
  /** Its certificate comes in the same way from a CA that the host does not know. */
  readonly stranger: TlsServer;
  /** Path on the host: the CA that its store has. */
  readonly ca: string;
}

/** A root with an extension's image merged. */
export interface UseRoot {
  readonly name: UseRootName;
  /** The root's folder, as this process sees it. */
  readonly path: string;
  /** The Debian root, which a bare one is a folder of: servers of its packages run there. Both have /run/tls and the network in common. */
  readonly host: Host;
  /** The root's folder in the Debian root: `/`, or that of the bare one. */
  readonly folder: string;
  /** The CA in the root's own store (/etc/ssl/certs), a server by it and one by another; the paths are those in the root, below /run/tls. */
  readonly tls: TlsHost;
  /** Runs a script of sh in an empty folder, with `set -e`; gives both outputs. All its processes end with it, or after five minutes. */
  run(script: string, env?: Readonly<Record<string, string>>): Promise<{ said: string; exitCode: number | undefined }>;
  /** Starts a script that goes on beside others, such as a server; `stop` ends it with all its processes and gives both outputs. */
  start(script: string, env?: Readonly<Record<string, string>>): { stop(): Promise<string> };
}

/** What a command in the machine said, both outputs together, and its exit code. */
export interface Answer {
  readonly code: number;
  readonly said: string;
}

/** A running machine. */
export interface Machine {
  readonly release: Release;
  readonly arch: Arch;
  /** Runs a bash script as root and gives all it says; an exit code other than 0 is an error. */
  run(script: string, timeout?: number): Promise<string>;
  /** Runs a bash script, whatever its exit code. */
  ask(script: string, timeout?: number): Promise<Answer>;
  /** Repeats a script until it succeeds; gives what it said then. */
  until(script: string, timeout?: number): Promise<string>;
  /** Copies a file of this machine to a path in it. */
  copyIn(from: string, path: string): Promise<void>;
  /** Reboots, as `systemctl reboot` does. */
  reboot(): Promise<void>;
  /** Shuts it down and starts it with another /usr, as an update of the OS or its rollback does. */
  bootInto(release: Release): Promise<void>;
  /** What the kernel and systemd wrote to the serial console. */
  serial(): Promise<string>;
}
