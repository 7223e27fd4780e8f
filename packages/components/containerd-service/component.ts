import { ownFiles } from '../lib/own-files.ts';

/** containerd.service and its config.toml. */
export const containerdService = ownFiles('containerd-service', import.meta.dirname);
