import { ownFiles } from '../lib/own-files.ts';

/**
 * Makes any containerd, Flatcar's own included, read `conf.d`: a drop-in of containerd.service passes a configuration in /run, which is
 * generated from config.toml and conf.d at each start.
 */
export const containerdConf = ownFiles('containerd-conf', import.meta.dirname);

/** For `waive` of the extensions that contain `containerdConf` without containerd.service itself. */
export const containerdConfWaiver = {
  'dropin-owner:usr/lib/systemd/system/containerd.service.d/50-conf.d.conf':
    'a shared component: all extensions that bring it have the same bytes under this path',
};
