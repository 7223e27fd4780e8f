import { ownFiles } from '../lib/own-files.ts';

/** docker.service, docker.socket and the group of its users. */
export const dockerService = ownFiles('docker-service', import.meta.dirname);
