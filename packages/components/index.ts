// Components that several extensions ship, each pinned in one lock, so that a path has the same bytes in all of them.
export { buildx, buildxReleases } from './buildx/component.ts';
export { cloudHypervisor, cloudHypervisorReleases, type CloudHypervisorVersions } from './cloud-hypervisor/component.ts';
export { cniPlugins, cniReleases } from './cni-plugins/component.ts';
export { compose, composeReleases } from './compose/component.ts';
export { containerdConf, containerdConfWaiver } from './containerd-conf/component.ts';
export { containerdService } from './containerd-service/component.ts';
export { containerd, containerdReleases } from './containerd/component.ts';
export { dockerService } from './docker-service/component.ts';
export { dockerEngine, dockerReleases, mobyReleases, type DockerVersions } from './docker/component.ts';
export { firmware, firmwareReleases } from './hypervisor-fw/component.ts';
export { qemu, qemuReleases, qemuWaiver } from './hypervisor-qemu/component.ts';
export { kata, kataReleases } from './kata/component.ts';
export { binfmtService, qemuUser } from './qemu-user/component.ts';
export { runc, runcReleases } from './runc/component.ts';
export { tini, tiniReleases } from './tini/component.ts';
