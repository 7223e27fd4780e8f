import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { buildExtension, hostArch, loadExtension, unpackImage, type Report } from '@flatcar/core';
import type { Plan, Probe, UpstreamContext } from '@flatcar/upstream';

/** Commands that a program is tried with, until one says its version. */
const ASKING = [['--version'], ['version'], ['-version'], ['-V'], ['-v']];
/** And if none does: until one prints its help, and calls that no error. */
const HELPING = [['--help'], ['help'], ['-h']];

/**
 * A line of a program's help that only the program prints: without its name, which a loader's errors have too and which depends on how it
 * was started, and without digits, which may be of a version.
 */
function helpLine(help: string, program: string): string | undefined {
  return help
    .split('\n')
    .map((line) => line.trim())
    .find((line) => line.length <= 80 && /[a-z]{2,}\W+[a-z]{2,}/i.test(line) && !/[\d/]/.test(line) && !line.includes(program));
}

/** How programs say their version, or print help, tried on the built image in a namespace of its own: no network, no other files. */
export async function probe(dir: string, plan: Plan, context: UpstreamContext, report: Report): Promise<Probe[]> {
  const arch = hostArch();
  return context.store.withTemp(async (temp) => {
    const { images } = await buildExtension(await loadExtension(dir), {
      version: plan.version,
      arch,
      targets: ['portable'],
      profile: 'fast',
      origin: 'auto',
      out: join(temp, 'out'),
      store: context.store,
      tools: context.tools,
      report,
      ...(context.mirror === undefined ? {} : { mirror: context.mirror }),
      ...(context.signal === undefined ? {} : { signal: context.signal }),
    });
    const root = join(temp, 'root');
    const [image] = images;
    if (image === undefined) throw new Error('the build made no image');
    await unpackImage(context.tools, image.file, 'squashfs', arch, root);
    return plan.programs.flatMap((program): Probe[] => {
      const run = (args: readonly string[]): { status: number | null; said: string } => {
        const { status, stdout, stderr } = spawnSync(
          'unshare',
          ['--map-root-user', '--mount', '--net', '--pid', '--fork', '--kill-child', 'chroot', root, `/usr/bin/${program}`, ...args],
          {
            encoding: 'utf8',
            timeout: 10_000,
            killSignal: 'SIGKILL',
            env: { PATH: '/usr/bin:/bin:/usr/sbin:/sbin', HOME: '/', LC_ALL: 'C' },
          },
        );
        return { status, said: `${stdout}${stderr}` };
      };
      const version = new RegExp(`(?<![\\d.])${RegExp.escape(plan.version)}(?!\\d|\\.\\d)`);
      const asking = ASKING.find((args) => version.test(run(args).said));
      if (asking !== undefined) return [{ run: [program, ...asking], says: 'version' }];
      for (const args of HELPING) {
        const { status, said } = run(args);
        const says = status === 0 ? helpLine(said, program) : undefined;
        if (says !== undefined) return [{ run: [program, ...args], says }];
      }
      return [];
    });
  });
}
