import { exec, networkEnv } from '@flatcar/core/engine';

/** Installs the wheels that a requirements file lists by their digests into an empty folder, with the host's pip. Throws a UserError if there is no pip. */
export async function installWheels(requirements: string, folder: string): Promise<void> {
  const flags = '--quiet --no-deps --require-hashes --only-binary :all:'.split(' ');
  await exec('python3', ['-m', 'pip', 'install', ...flags, '--target', folder, '--requirement', requirements], {
    env: { ...networkEnv(), PIP_DISABLE_PIP_VERSION_CHECK: '1', PIP_ROOT_USER_ACTION: 'ignore' },
    install: 'install python3-pip',
  });
}
