import { expect, expectOwnObjects, testExtension, testRelocated, traced } from '@flatcar/testing';

const folder = '/usr/lib/debug-tools';

testExtension(import.meta.dirname, {
  // What asks the kernel of a machine of its own.
  machine: {
    answers: [
      { run: 'strace --trace=execve true', says: /^execve\("\/usr\/bin\/true", \["true"\]/m },
      { run: 'sleep 300 & gdb -nx -batch -ex "info proc" -p $!; kill $!', says: /^cmdline = 'sleep 300'$/m },
      { run: 'bpftool prog list --json', says: /^\[/ },
      { run: 'perf stat --event task-clock true', says: /task-clock/ },
      { run: 'tcpdump --list-interfaces', says: /^\d+\.lo /m },
      { run: 'lsof -p 1', says: /^systemd +1 root +cwd +DIR/m },
    ],
  },
  commands: [
    { run: ['strace', '--version'], says: /^strace -- version 6\.13/ },
    { run: ['gdb', '--version'], says: /^GNU gdb \(Debian 16\.3-1\) 16\.3/ },
  ],
});

/** Every program, and what it says when it is asked for its version, or for help where it knows no version. */
const says: Readonly<Record<string, RegExp>> = {
  'strace --version': /^strace -- version 6\.13/,
  'ltrace --version': /^ltrace 0\.7\.91/,
  'gdb --version': /^GNU gdb/,
  'gdbserver --version': /^GNU gdbserver/,
  'perf --version': /^perf version 6\.12/,
  'trace-cmd --version': /trace-cmd version 3/,
  'bpftool --version': /^bpftool v7/,
  'readelf --version': /^GNU readelf/,
  'objdump --version': /^GNU objdump/,
  'strings --version': /^GNU strings/,
  'file --version': /^file-5\.46\nmagic file from/,
  'lsof -v': /revision: 4\.99/,
  'htop --version': /^htop 3\.4/,
  'iotop --version': /\biotop 1\.30/,
  'pstree --version': /^pstree \(PSmisc\) 23/,
  'killall --version': /^killall \(PSmisc\) 23/,
  'fuser --version': /^fuser \(PSmisc\) 23/,
  'numactl --version': /2\.0/,
  'iostat -V': /^sysstat version 12\.7/,
  'mpstat -V': /^sysstat version 12\.7/,
  'pidstat -V': /^sysstat version 12\.7/,
  'sar -V': /^sysstat version 12\.7/,
  'sadf -V': /^sysstat version 12\.7/,
  'tcpdump --version': /^tcpdump version 4\.99/,
  'iperf3 --version': /^iperf 3\.18/,
  'mtr --version': /^mtr 0\.95/,
  'nmap --version': /^Nmap version 7\.95/,
  'nping --version': /^Nping version 0\.7\.95/m,
  'ncat --version': /^Ncat: Version 7\.95/,
  'ethtool --version': /^ethtool version 6\.14/,
  'dig -v': /^DiG 9\.20/,
  'host -V': /^host 9\.20/,
  'traceroute --version': /traceroute.*2\.1/,
  'socat -V': /socat version 1\.8/,
  'iftop -h': /iftop: display bandwidth usage/,
  'nethogs -V': /version 0\.8/,
  'lspci --version': /^lspci version 3\.13/,
  'lsusb --version': /^lsusb \(usbutils\) 018/,
  'ioping -v': /^ioping 1\.3/,
  'vim --version': /^VIM - Vi IMproved 9\.1/,
  'xxd --version': /^xxd/,
  'nano --version': /GNU nano, version 8\.4/,
  'tmux -V': /^tmux 3\.5/,
  'jq --version': /^jq-1\.7/,
  'tree --version': /^tree v2\.2/,
  'pv --version': /^pv 1\.9/,
};

const GET = 'printf "GET / HTTP/1.0\\r\\n\\r\\n"';

testRelocated(import.meta.dirname, {
  folder,
  tls: [
    {
      run: ({ url }) => ['gdb', '-nx', '-batch', '-ex', `python import urllib.request; print(urllib.request.urlopen("${url}").read())`],
      accepts: /hello over TLS/,
      refuses: /CERTIFICATE_VERIFY_FAILED/,
    },
    {
      run: ({ port }) => ['sh', '-c', `${GET} | ncat --ssl-verify --ssl-servername localhost 127.0.0.1 ${port}`],
      accepts: /hello over TLS/,
      refuses: /^Ncat: Input\/output error/m, // its handshake failed
    },
    {
      run: ({ port }) => ['sh', '-c', `${GET} | socat - OPENSSL:127.0.0.1:${port}`],
      accepts: /hello over TLS/,
      refuses: /certificate verify failed/,
    },
  ],
  commands: Object.entries(says).map(([line, words]) => ({ run: line.split(' '), says: words })),
  async also(host, arch) {
    // What is loaded at run time only: Python and a character set in gdb, descriptions of services in nmap, vim's own scripts.
    const python = 'import json, ssl, sys; print("python", sys.version_info[:2], ssl.OPENSSL_VERSION.split()[0])';
    expect(await host.run(['gdb', '-nx', '-batch', '-ex', `python ${python}`], { arch })).toMatch(/^python \(3, 13\) OpenSSL$/m);
    const converts = ['vim', '-es', '-u', 'NONE', '+call iconv("a", "latin1", "utf-7")', '+q!'];
    const { objects } = await traced(host, converts, folder, { arch });
    expect(objects.map((path) => path.replaceAll(/\/+/g, '/'))).toContain(`${folder}/gconv/UTF-7.so`);
    expectOwnObjects(objects, folder, 'vim');
    const scan = ['nmap', '--unprivileged', '-n', '-Pn', '-sT', '-p', '1', '127.0.0.1'];
    expect(await host.run(scan, { arch })).toMatch(/^1\/tcp +closed +tcpmux$/m);
    await host.run(['vim', '-es', '-u', 'DEFAULTS', '+put=$VIMRUNTIME', '+w! /run/vim.txt', '+q!'], { arch });
    expect(await host.run(['cat', '/run/vim.txt'])).toContain('/usr/share/vim/vim91');
    expect(await host.run(['sh', '-c', 'echo "{\\"a\\":1}" >/run/a.json'])).toBe('');
    expect(await host.run(['jq', '.a', '/run/a.json'], { arch })).toBe('1');
  },
});
