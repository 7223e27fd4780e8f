import { access, constants, readFile, readdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import {
  cacheRoot,
  debianMirror,
  envOf,
  exec,
  httpRequest,
  isNetworkFailure,
  makeFolder,
  openSandbox,
  openStore,
  openTools,
  UserError,
  type Environment,
  type Store,
} from '@flatcar/core/engine';
import { REPOSITORY } from './select.ts';

/** What was found of one thing that flatcar-ext needs: `warning` if only some commands need it, `missing` if all do. */
export interface Diagnosis {
  readonly subject: string;
  readonly state: 'ok' | 'warning' | 'missing';
  /** What this machine has. */
  readonly found: string;
  /** What to do, and what it is needed for. */
  readonly next?: string;
}

/** What is asked of the machine; tests answer themselves. */
export interface Machine {
  readonly env: Environment;
  readonly uid: number;
  /** Version of Node that runs this. */
  readonly node: string;
  /** Whether a URL is answered, with any status. */
  readonly reach: (url: string) => Promise<boolean>;
  /** Throws a UserError if a program cannot be run in the sandbox. */
  readonly trySandbox: (store: Store) => Promise<void>;
}

/** Bytes that the store needs: sources and results of the largest extensions, and half of that to build the small ones. */
const ROOMY = 20 * 2 ** 30;
const NARROW = 2 * 2 ** 30;
/** Milliseconds after which a host counts as not reached. */
const PATIENCE = 5000;
/** Hosts that upstream's files come from, and which. Go and cargo know the hosts of their modules and crates, and report them themselves. */
const HOSTS: Readonly<Record<string, string>> = {
  'https://github.com/': 'releases of most upstreams',
  'https://dl.k8s.io/': 'Kubernetes',
};

const gibibytes = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

const exists = (path: string, mode: number = constants.F_OK): Promise<boolean> =>
  access(path, mode).then(
    () => true,
    () => false,
  );

/** This machine as it is. */
export function thisMachine(signal: AbortSignal): Machine {
  return {
    env: process.env,
    uid: process.getuid?.() ?? 0,
    node: process.versions.node,
    reach: (url) =>
      httpRequest(url, { max: 1 << 20, attempts: 1, limits: { total: PATIENCE }, signal }).then(
        () => true,
        (error: unknown) => {
          signal.throwIfAborted();
          return error instanceof UserError && !isNetworkFailure(error);
        },
      ),
    trySandbox: (store) =>
      store.withTemp(async (work) => void (await openSandbox(store, openTools(store)).run('/bin/true', [], { work, signal }))),
  };
}

async function node({ node: version }: Machine): Promise<Diagnosis> {
  const wanted = /"node": ">=([\d.]+)"/.exec(await readFile(join(REPOSITORY, 'package.json'), 'utf8'))?.[1] ?? '';
  const isEnough = version.localeCompare(wanted, 'en', { numeric: true }) >= 0;
  const next = isEnough ? undefined : `Node ${wanted} or later is needed: run flatcar-ext from node_modules/.bin, or scripts/run`;
  return { subject: 'Node', state: isEnough ? 'ok' : 'missing', found: version, next };
}

/** Whether node_modules has what the lock lists; scripts/run compares the same two files. */
async function packages(): Promise<Diagnosis> {
  const read = (path: string): Promise<string> => readFile(join(REPOSITORY, path), 'utf8').catch(() => '');
  const isCurrent = (await read('package-lock.json')) === (await read('node_modules/.installed'));
  const found = isCurrent ? 'as package-lock.json lists them' : 'not as package-lock.json lists them';
  return { subject: 'npm packages', state: isCurrent ? 'ok' : 'missing', found, next: isCurrent ? undefined : 'run scripts/run true' };
}

async function git(): Promise<Diagnosis> {
  const version = await exec('git', ['--version'], {}).catch(() => undefined);
  const next = 'install git: images for publishing record their commit, and bump and pin compare with origin/main';
  if (version === undefined) return { subject: 'git', state: 'warning', found: 'not installed', next };
  return { subject: 'git', state: 'ok', found: version.replace(/^git version /, '').trim() };
}

async function store(): Promise<Diagnosis> {
  const root = cacheRoot();
  const next = 'set FLATCAR_EXT_CACHE to a folder that you can write to, with 20 GiB of room';
  try {
    await makeFolder(root);
    await access(root, constants.W_OK);
  } catch {
    return { subject: 'store', state: 'missing', found: `${root} cannot be written to`, next };
  }
  const { bavail, bsize } = await statfs(root);
  const free = bavail * bsize;
  const kinds = await openStore(root).stats();
  const used = kinds.reduce((sum, { bytes }) => sum + bytes, 0);
  const found = `${root}: ${gibibytes(used)} used, ${gibibytes(free)} free`;
  if (free >= ROOMY) return { subject: 'store', state: 'ok', found };
  const room = `the largest extensions need 20 GiB: flatcar-ext cache prune --older-than 30, or ${next}`;
  return { subject: 'store', state: free < NARROW ? 'missing' : 'warning', found, next: room };
}

async function root({ uid }: Machine): Promise<Diagnosis> {
  const next = 'run merge tests and machine tests as root (sudo); nothing else needs it';
  return uid === 0
    ? { subject: 'root', state: 'ok', found: 'yes' }
    : { subject: 'root', state: 'warning', found: `no (user ${uid})`, next };
}

async function sandbox({ trySandbox }: Machine): Promise<Diagnosis> {
  try {
    await trySandbox(openStore());
    return { subject: 'sandbox', state: 'ok', found: 'programs run in it' };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const next = `compiling needs it: ${error.next ?? 'see the reason'}`;
    return { subject: 'sandbox', state: 'warning', found: error.message.split('\n')[0] ?? '', next };
  }
}

async function kvm(): Promise<Diagnosis> {
  if (await exists('/dev/kvm', constants.R_OK | constants.W_OK)) return { subject: 'KVM', state: 'ok', found: '/dev/kvm is usable' };
  const isThere = await exists('/dev/kvm');
  const next = isThere
    ? 'add your user to the group kvm; without it machine tests emulate, and a boot takes a minute or two'
    : 'use a machine with virtualization; without it machine tests emulate, and a boot takes a minute or two';
  return { subject: 'KVM', state: 'warning', found: isThere ? 'this user may not use /dev/kvm' : 'there is no /dev/kvm', next };
}

/** Emulators that the kernel starts by itself. Merge tests of the other architecture register the pinned one as root. */
async function emulators({ uid }: Machine): Promise<Diagnosis> {
  const names = await readdir('/proc/sys/fs/binfmt_misc').catch(() => []);
  const registered = names.filter((name) => name.startsWith('qemu-'));
  if (registered.length > 0) return { subject: 'emulators', state: 'ok', found: `${registered.length} registered with the kernel` };
  const found = 'none registered with the kernel';
  if (uid === 0) return { subject: 'emulators', state: 'ok', found: `${found}; tests register the pinned one` };
  return {
    subject: 'emulators',
    state: 'warning',
    found,
    next: 'merge tests of the other architecture register the pinned one: run them as root',
  };
}

async function reached(url: string, what: string, subject: string, { reach }: Machine): Promise<Diagnosis> {
  if (await reach(url)) return { subject, state: 'ok', found: `${url} is reached` };
  const next = `needed for ${what}, unless the store has it: check the network and the proxy settings (HTTPS_PROXY)`;
  return { subject, state: 'warning', found: `${url} cannot be reached`, next };
}

async function hosts(machine: Machine): Promise<Diagnosis[]> {
  const mirror = envOf('FLATCAR_EXT_MIRROR', machine.env);
  const debian = reached(`${await debianMirror()}/`, 'image tools, compilers and packages of Debian', 'Debian mirror', machine);
  if (mirror !== undefined) return Promise.all([debian, reached(mirror, 'all files of upstreams', 'mirror', machine)]);
  return Promise.all([debian, ...Object.entries(HOSTS).map(([url, what]) => reached(url, what, new URL(url).host, machine))]);
}

/** Keys of a publisher: a folder, or variables as workflows have them. */
async function keys({ env }: Machine): Promise<Diagnosis> {
  const folder = envOf('FLATCAR_EXT_KEYS', env);
  if (folder !== undefined) {
    if (await exists(join(folder, 'sums'), constants.R_OK)) return { subject: 'keys', state: 'ok', found: `in ${folder}` };
    return {
      subject: 'keys',
      state: 'warning',
      found: `${folder} has no keys`,
      next: 'correct FLATCAR_EXT_KEYS, or run flatcar-ext keys init',
    };
  }
  if (envOf('FLATCAR_EXT_SUMS_KEY', env) !== undefined) return { subject: 'keys', state: 'ok', found: 'in FLATCAR_EXT_SUMS_KEY' };
  return { subject: 'keys', state: 'warning', found: 'none', next: 'publishing needs them: flatcar-ext keys init ~/dev-keys' };
}

/** Looks at everything on this machine that flatcar-ext needs. */
export async function diagnose(machine: Machine): Promise<Diagnosis[]> {
  const found = await Promise.all([
    node(machine),
    packages(),
    git(),
    store(),
    root(machine),
    sandbox(machine),
    kvm(),
    emulators(machine),
    hosts(machine),
    keys(machine),
  ]);
  return found.flat();
}
