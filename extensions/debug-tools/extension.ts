import { debian, defineExtension, packaged } from '@flatcar/core';

const programs = [
  'strace ltrace gdbserver perf trace-cmd bpftool readelf objdump strings file', // programs at work
  'lsof htop iotop-c pstree killall fuser numactl iostat mpstat pidstat sar.sysstat sadf', // processes and load
  'tcpdump iperf3 mtr mtr-packet nmap nping ncat ethtool dig host traceroute.db socat iftop nethogs', // the network
  'lspci lsusb ioping', // devices
  'vim.basic xxd nano tmux jq tree pv', // the hands
].flatMap((line) => line.split(' '));

const origin = debian(
  [
    'strace ltrace gdb gdbserver linux-perf trace-cmd bpftool binutils file',
    'lsof htop iotop-c psmisc numactl sysstat',
    'tcpdump iperf3 mtr-tiny nmap ncat ethtool bind9-dnsutils bind9-host traceroute socat iftop nethogs',
    'pciutils usbutils ioping',
    'vim vim-runtime xxd nano tmux jq tree pv',
  ].flatMap((line) => line.split(' ')),
  {
    programs,
    rename: { 'iotop-c': 'iotop', 'sar.sysstat': 'sar', 'traceroute.db': 'traceroute', 'vim.basic': 'vim' },
    // gdb prints strings of the program by iconv.
    dlopen: ['usr/lib/{triplet}/gconv/UTF-*.so'],
    data: [
      'usr/lib/{triplet}/gconv/gconv-modules',
      'usr/libexec/sysstat/sadc',
      'usr/lib/file/magic.mgc',
      'usr/share/misc/magic.mgc',
      'usr/share/nmap/**',
      'usr/share/perf-core/strace/groups/*',
      'usr/share/vim/vim91/**',
      ...['doc', 'lang', 'spell', 'tutor', 'print', 'tools'].map((name) => `!usr/share/vim/vim91/${name}/**`),
    ],
    // gdb looks for its own files and Python's from where it stands; files/ links to it.
    beside: [
      'usr/bin/gdb',
      'usr/share/gdb/**',
      'usr/lib/python3.13/**',
      ...['ensurepip', 'idlelib', 'lib2to3', 'pydoc_data', 'test', 'tkinter', 'turtledemo', 'unittest'].map(
        (name) => `!usr/lib/python3.13/${name}/**`,
      ),
    ],
  },
);

export default defineExtension({
  name: 'debug-tools',
  summary: 'strace, gdb, perf, tcpdump, nmap, htop, vim, tmux and others to look into a host with',
  versions: { kind: 'date', at: '', keep: 'newest' },
  components: (v) => [packaged('debug-tools', v.version, origin)],
  // Flatcar has some of these, often older or with less compiled in.
  replaces: ['ethtool', 'jq', 'lspci', 'lsof', 'socat', 'strace', 'tcpdump', 'vim'].map((name) => `usr/bin/${name}`),
  waive: {
    'script-interpreter:usr/lib/debug-tools/lib/python3.*/**': "modules that gdb's Python imports; nobody runs them by themselves",
  },
});
