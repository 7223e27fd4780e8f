import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { compileStatic, expect, openStore, writeContainer, type Machine } from '@flatcar/testing';

const HELLO = 'hello from a pod';
const IMAGE = 'test.example/hello:1';

// With an argument it only keeps the pod's namespaces, as Kubernetes' pause image does.
const PROGRAM = `
#include <arpa/inet.h>
#include <stdio.h>
#include <unistd.h>
int main(int count, char **arguments) {
  if (count > 1) for (;;) pause();
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(8080)};
  int server = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(server, (struct sockaddr *)&any, sizeof any) || listen(server, 8)) return 1;
  puts("${HELLO} is served");
  fflush(stdout);
  for (;;) {
    char request[1024];
    int client = accept(server, 0, 0);
    if (client < 0 || read(client, request, sizeof request) <= 0) return 2;
    dprintf(client, "HTTP/1.0 200 OK\\r\\n\\r\\n${HELLO}, pid %d\\n", (int)getpid());
    close(client);
  }
}
`;

// Links of its own to the pod and to the world, which a machine without a network has none of.
const NETWORK = `
set -e
printf '[Match]\\nKind=dummy veth\\n\\n[Link]\\nUnmanaged=yes\\n' >/etc/systemd/network/00-unmanaged.network
networkctl reload
ip link add world type dummy
ip address add 192.0.2.1/24 dev world
ip link set world up
ip route add default via 192.0.2.2
echo 'runtime-endpoint: unix:///run/containerd/containerd.sock' >/etc/crictl.yaml
cat >/etc/cni/net.d/10-pods.conflist <<'END'
{
  "cniVersion": "1.0.0", "name": "pods",
  "plugins": [{ "type": "ptp", "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.85.0.0/24" }]], "routes": [{ "dst": "0.0.0.0/0" }] } }]
}
END
`;

const KUBEADM = (version: string): string => `
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: { advertiseAddress: 192.0.2.1 }
nodeRegistration: { name: stand-in, criSocket: "unix:///run/containerd/containerd.sock", imagePullPolicy: Never }
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: ${version}
encryptionAlgorithm: ECDSA-P256
`;

const POD = `
apiVersion: v1
kind: Pod
metadata: { name: hello }
spec:
  containers: [{ name: hello, image: "${IMAGE}", imagePullPolicy: Never }]
`;

/**
 * Makes the machine a node, as `kubeadm init` begins to: its preflight passes, it starts the kubelet, and that runs a static pod
 * by containerd and the CNI plugins. There is no network: the images are made on the spot, and there is no API server.
 */
export async function runStaticPod(machine: Machine): Promise<void> {
  await machine.until('ctr version');
  const pause = await machine.run(
    `containerd --config /run/containerd-conf/config.toml config dump 2>/dev/null | sed -n "s/^ *sandbox = '\\(.*\\)'/\\1/p"`,
  );
  expect(pause).toMatch(/^\S+\/pause:\S+$/);
  await openStore().withTemp(async (temp) => {
    const program = join(temp, 'hello');
    await compileStatic(PROGRAM, machine.arch, program);
    await writeContainer({ name: IMAGE, program, args: [], arch: machine.arch }, join(temp, 'hello.tar'));
    await writeContainer({ name: pause, program, args: ['pause'], arch: machine.arch }, join(temp, 'pause.tar'));
    await writeFile(join(temp, 'kubeadm.yaml'), KUBEADM(await machine.run('kubeadm version --output short')));
    await writeFile(join(temp, 'pod.yaml'), POD);
    for (const name of ['hello.tar', 'pause.tar', 'kubeadm.yaml', 'pod.yaml']) await machine.copyIn(join(temp, name), `/run/test/${name}`);
  });
  await machine.run(NETWORK);
  for (const name of ['hello', 'pause']) await machine.run(`ctr --namespace k8s.io images import /run/test/${name}.tar`);

  const phase = (what: string): Promise<string> => machine.run(`kubeadm init phase ${what} --config /run/test/kubeadm.yaml`);
  // The kernel's configuration is Flatcar's, in /proc; that of the stand-in is nowhere.
  await phase('preflight --ignore-preflight-errors=SystemVerification');
  await phase('certs ca');
  await phase('kubeconfig kubelet');
  await machine.run('cp /run/test/pod.yaml /etc/kubernetes/manifests/hello.yaml');
  expect(await machine.run('systemctl is-active kubelet.service || true'), 'it waits for its configuration').toBe('inactive');
  await phase('kubelet-start');

  const container = await machine.until('crictl ps --quiet --state Running --name hello | grep .');
  expect(await machine.run(`crictl logs ${container}`)).toBe(`${HELLO} is served`);
  const pod = await machine.run('crictl pods --quiet --name hello');
  const address = await machine.run(`crictl inspectp --output go-template --template '{{.status.network.ip}}' ${pod}`);
  expect(address).toMatch(/^10\.85\.0\.\d+$/);
  expect(await machine.until(`curl --silent --show-error --max-time 60 http://${address}:8080`)).toBe(`${HELLO}, pid 1`);
  expect(await machine.run('systemctl is-active kubelet.service')).toBe('active');
}
