import { PLAIN_VERSION, upstreamVersion, UserError, type PackageVersions } from '@flatcar/core/engine';
import { newestPackages, type UpstreamContext } from '../context.ts';
import type { Listed } from './tags.ts';

/**
 * Upstream's version of a package of Debian's main archive, `suite/main/package`: the newest of the suite, its updates and its security updates, which
 * is what `pin` takes. Throws a UserError if there is no such package.
 */
export async function debianVersion(at: string, context: UpstreamContext): Promise<string> {
  const [suite, component, name, ...more] = at.split('/');
  if (suite === undefined || component !== 'main' || name === undefined || more.length > 0)
    throw new UserError('a Debian version source is suite/main/package', { where: at, next: 'such as trixie/main/tini' });
  const { packages } = await newestPackages(suite, 'x86-64', context);
  const found = packages.find((one) => one.name === name);
  if (found === undefined)
    throw new UserError(`${suite} has no package ${name}`, {
      where: at,
      next: 'check the name: apt-cache search, or https://packages.debian.org',
    });
  return upstreamVersion(found.version);
}

export async function debianVersions({ package: at }: PackageVersions, context: UpstreamContext): Promise<Listed[]> {
  const version = await debianVersion(at, context);
  const [suite = '', , name = ''] = at.split('/');
  if (!PLAIN_VERSION.test(version))
    throw new UserError(`${suite} has ${name} ${version}, which is not a version of digits and dots`, {
      where: at,
      next: "systemd ranks letters as earlier than a release: date the extension (versions: { kind: 'date', track: 'newest' })",
    });
  return [{ version }];
}
