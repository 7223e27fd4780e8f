// What a test of an extension specifies: types only.
import type { Arch, OriginChoice, Target } from '@flatcar/core/engine';
import type { Host, Machine, TlsServer, UseRoot, UseRootName } from './hosts.ts';

/** A command and what it must print. A version is a pinned one, of the extension or under a name in pins.json, so that a bump changes no test. */
export interface Command {
  /**
   * The program and its arguments.
   * @example ['yq', '--version']
   */
  readonly run: readonly string[];
  /**
   * Environment variables.
   * @default {}
   * @example { TERM: 'xterm' }
   */
  readonly env?: Readonly<Record<string, string>>;
  /**
   * What it prints: a pattern, the pinned version of the extension, or the version of a coupled component.
   * @example 'version'
   */
  readonly says: RegExp | 'version' | { readonly version: string };
}

/** Pinned versions by name: `version` is the extension's own, the others are those of `with` in pins.json. */
export type PinnedVersions = Readonly<Record<string, string>>;

/** How a program shows that it trusts the CAs of the host's store and no others. */
export interface TlsCheck {
  /**
   * Returns a command that connects to a server with the program's own defaults: it names no CA.
   * @example ({ url }) => ['curl', '--silent', url]
   */
  readonly run: (server: TlsServer) => readonly string[];
  /**
   * Environment variables.
   * @default {}
   * @example { HOME: '/root' }
   */
  readonly env?: Readonly<Record<string, string>>;
  /**
   * What it prints after it verified the server.
   * @example /hello over TLS/
   */
  readonly accepts: RegExp;
  /**
   * What it prints for a server whose CA it does not know.
   * @example /certificate verify failed/
   */
  readonly refuses: RegExp;
}

/** The programs that open TLS connections, or the reason why there are none. */
export type TlsChecks = readonly TlsCheck[] | string;

/** What a boot must show; the commands of the test run in the machine too. */
export interface MachineTest {
  /**
   * Files that the node has from its first boot, by their paths: what an operator's Ignition would write.
   * @default {}
   * @example { '/etc/haproxy/haproxy.cfg': '…' }
   */
  readonly files?: Readonly<Record<string, string>>;
  /**
   * Units that are active soon after the boot.
   * @default []
   * @example ['haproxy.service']
   */
  readonly active?: readonly string[];
  /**
   * Bash scripts that must succeed soon after the boot, and what they print.
   * @default []
   * @example [{ run: 'curl --silent localhost:9100/metrics', says: /node_/ }]
   */
  readonly answers?: readonly { readonly run: string; readonly says: RegExp }[];
  /**
   * Units that `systemctl reload` must work on: each stays the same main process, and `answers` hold afterwards as well. The unit must
   * have a reload (`ExecReload=`), or this fails.
   * @default []
   * @example ['haproxy.service']
   */
  readonly reloads?: readonly string[];
  /**
   * Units, and a user that at least one of their processes runs as.
   * @default {}
   * @example { 'chrony.service': '_chrony' }
   */
  readonly runsAs?: Readonly<Record<string, string>>;
  /**
   * TCP ports on which something listens.
   * @default []
   * @example [9100]
   */
  readonly ports?: readonly number[];
  /**
   * Extensions that it needs beside it, besides those that its definition requires.
   * @default []
   * @example ['containerd']
   */
  readonly beside?: readonly string[];
  /**
   * True to boot it in `npm test` although it is not small, if the store has its image and those of the extensions beside it.
   * @default false
   * @example true
   */
  readonly whenBuilt?: boolean;
  /**
   * MiB of memory that the machine needs.
   * @default 2048
   * @example 4096
   */
  readonly memory?: number;
  /**
   * More to check on the machine.
   * @example async (machine) => { await machine.run('systemctl is-active tool'); }
   */
  readonly also?: (machine: Machine) => Promise<void>;
}

/** What the test of an extension specifies; everything else is the same for all extensions. */
export interface ExtensionTest {
  /**
   * What the extension is.
   * @default 'sysext'
   * @example 'confext'
   */
  readonly kind?: 'sysext' | 'confext';
  /**
   * Commands that must work once the image is merged.
   * @example [{ run: ['yq', '--version'], says: 'version' }]
   */
  readonly commands: readonly Command[];
  /**
   * Units that `systemd-analyze verify` must find nothing wrong with.
   * @default []
   * @example ['node-exporter.service']
   */
  readonly units?: readonly string[];
  /**
   * Paths that must exist after systemd-tmpfiles has run.
   * @default []
   * @example ['/var/lib/tool']
   */
  readonly paths?: readonly string[];
  /**
   * Components to build, if others are available from upstream only.
   * @default all
   * @example ['wasmtime']
   */
  readonly only?: readonly string[];
  /**
   * Version that the test is about.
   * @default the newest
   * @example '1.36.4'
   */
  readonly version?: string;
  /**
   * Where its components come from.
   * @default 'auto'
   * @example 'source'
   */
  readonly origin?: OriginChoice;
  /**
   * For an image with a TLS library: its programs that verify servers with the host's CAs, or the reason why there are none.
   * @example { programs: [{ run: ({ url }) => ['curl', url], accepts: /hello/, refuses: /certificate/ }] }
   */
  readonly tls?: TlsChecks;
  /**
   * What only a booted machine shows; the commands run there too.
   * @example { active: ['node-exporter.service'], ports: [9100] }
   */
  readonly machine?: MachineTest;
  /**
   * More to check in the merged host.
   * @example async (host) => { expect(await host.exists('/usr/bin/yq')).toBe(true); }
   */
  readonly also?: (host: Host, arch: Arch, versions: PinnedVersions) => Promise<void>;
  /**
   * True for the extension of its origin and kind that `npm test` builds and merges on a bare machine. The others are left to `npm run
   * test:all`.
   * @default false
   * @example true
   */
  readonly small?: boolean;
}

/** What the test of an extension from Debian packages specifies. */
export interface RelocatedTest extends Pick<ExtensionTest, 'only' | 'version' | 'origin' | 'machine' | 'tls'> {
  /**
   * Folder of its own libraries.
   * @example '/usr/lib/debug-tools'
   */
  readonly folder: string;
  /**
   * Programs that start, run on their own libraries and print this; on both architectures.
   * @example [{ run: ['strace', '-V'], says: /strace/ }]
   */
  readonly commands: ExtensionTest['commands'];
  /**
   * What the image is bound to.
   * @default 'portable'
   * @example channelHead('stable')
   */
  readonly target?: Target;
  /**
   * Programs among the commands that are linked statically.
   * @default []
   * @example ['busybox']
   */
  readonly static?: readonly string[];
  /**
   * More to check in the merged host.
   * @example async (host) => { await host.run(['git', 'init', '/tmp/x']); }
   */
  readonly also?: (host: Host, arch: Arch) => Promise<void>;
}

/** One thing that a user does with an extension. */
export interface RealUse {
  /**
   * What the user does, for the README.
   * @example 'clones over https'
   */
  readonly does: string;
  /**
   * A shell script, run in an empty folder with `set -e` and without a locale. Everything that it starts ends with it. Rows do not
   * depend on each other.
   * @example 'git init --quiet x && ls -a x'
   */
  readonly run: string;
  /**
   * The whole output (stdout and stderr, trimmed), or a pattern that it must match.
   * @example /\.git/
   */
  readonly gives: string | RegExp;
  /**
   * Roots where it does not run, each with the reason, which the README repeats.
   * @default {}
   * @example { emulated: 'it traces system calls' }
   */
  readonly except?: Readonly<Partial<Record<UseRootName, string>>>;
}

/** What users do with an extension. */
export interface RealUses extends Pick<ExtensionTest, 'only' | 'version' | 'origin' | 'small'> {
  /**
   * What users do with the extension, one row of the README each.
   * @example [{ does: 'prints a value', run: 'echo a: 1 | yq .a', gives: '1' }]
   */
  readonly uses: readonly RealUse[];
  /**
   * More packages of the Debian root: servers that the scripts talk to.
   * @default []
   * @example ['nginx']
   */
  readonly packages?: readonly string[];
  /**
   * Starts servers for the scripts, calls `rows` with variables for them (ports), and stops them afterwards. Called once for each root.
   * @example async (root, rows) => rows({ PORT: '8080' })
   */
  readonly withServers?: (root: UseRoot, rows: (env: Readonly<Record<string, string>>) => Promise<void>) => Promise<void>;
}

/**
 * What upstream's archives hold (`a -> b` is a link), by a pattern of their file names: the default of an extension's `test/upstream-layout.ts`. A raw file needs
 * none; of an archive without one, only what the definition takes out of it is known.
 */
export type Layouts = readonly (readonly [name: RegExp, members: readonly string[]])[];

/** What the test of an extension specifies whose upstream is not reachable from a test; archives have the layouts of upstream's. */
export interface UpstreamTest {
  readonly version?: string;
  /** Programs that the merged image must contain. */
  readonly programs: readonly string[];
  readonly paths?: readonly string[];
  /** What a boot must show with upstream's own files; skipped if they are not available. */
  readonly machine?: MachineTest;
  readonly also?: (host: Host) => Promise<void>;
  /** True for the test that `npm test` runs as an example for all. */
  readonly small?: boolean;
}
