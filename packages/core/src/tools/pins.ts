import * as v from 'valibot';
import type { Arch } from '../model/arch.ts';
import { readDataFile } from '../util/data-file.ts';

const byArch = <T extends v.GenericSchema>(item: T) => v.object({ 'x86-64': item, arm64: item } satisfies Record<Arch, T>);
const Names = v.array(v.string());

/** A pinned Debian package; its name is the key. */
const PackagePin = v.object({
  version: v.string(),
  /** Path below the mirror. */
  path: v.string(),
  sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  /** In bytes. */
  size: v.number(),
});

const ToolPinsSchema = v.object({
  suite: v.string(),
  /** Timestamp at which the snapshot archive has all packages. */
  snapshot: v.string(),
  /** By tool: the path of its program, and its packages with all libraries. */
  tools: v.record(v.string(), v.object({ program: v.string(), packages: Names })),
  packages: byArch(v.record(v.string(), PackagePin)),
});

/** data/tools.json: the packages of each tool, pinned for both host architectures. Written by scripts/pin/tools.ts. */
export type ToolPins = v.InferOutput<typeof ToolPinsSchema>;

/** Reads data/tools.json. */
export async function readToolPins(): Promise<ToolPins> {
  return readDataFile(ToolPinsSchema, new URL('data/tools.json', import.meta.url));
}

const ToolchainPinsSchema = v.object({
  suite: v.string(),
  /** Timestamp at which the snapshot archive has all packages. */
  snapshot: v.string(),
  /** By the architecture that compiles: packages of gcc and binutils by target, and of Rust. */
  hosts: byArch(v.object({ cc: byArch(Names), rust: Names })),
  /** By target: packages of headers and libraries, of the target's architecture. */
  sysroots: byArch(Names),
  /** The package of Rust's standard library. */
  rustStd: v.string(),
  packages: byArch(v.record(v.string(), v.object({ ...PackagePin.entries, suite: v.optional(v.string()) }))),
});

/** data/toolchains.json: compilers for both host and target architectures, as Debian packages. Written by scripts/pin/toolchains.ts. */
export type ToolchainPins = v.InferOutput<typeof ToolchainPinsSchema>;

let read: ToolchainPins | undefined;

/** Reads data/toolchains.json, once. */
export async function readToolchainPins(): Promise<ToolchainPins> {
  return (read ??= readDataFile(ToolchainPinsSchema, new URL('data/toolchains.json', import.meta.url)));
}
