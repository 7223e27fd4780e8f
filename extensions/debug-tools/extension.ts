import { debian, defineExtension, packaged } from '@flatcar/core';

const programs = [
  'strace ltrace gdbserver trace-cmd bpftool readelf objdump strings file', // programs at work
  'lsof htop iotop-c pstree killall fuser numactl iostat mpstat pidstat sar.sysstat sadf', // processes and load
  'iperf3 mtr mtr-packet nmap nping ncat ethtool dig host traceroute.db socat iftop nethogs', // the network
  'lspci lsusb ioping', // devices
  'vim.basic xxd nano tmux jq tree pv', // the hands
].flatMap((line) => line.split(' '));

const origin = debian(
  [
    'strace ltrace gdb gdbserver linux-perf perl-base trace-cmd bpftool binutils file',
    'lsof htop iotop-c psmisc numactl sysstat',
    'tcpdump libc-bin iperf3 mtr-tiny nmap ncat ethtool bind9-dnsutils bind9-host traceroute socat iftop nethogs',
    'pciutils pci.ids usbutils ioping',
    'vim vim-runtime xxd nano tmux jq tree pv',
  ].flatMap((line) => line.split(' ')),
  {
    programs,
    rename: { 'iotop-c': 'iotop', 'sar.sysstat': 'sar', 'traceroute.db': 'traceroute', 'vim.basic': 'vim' },
    relocate: {
      plugins: ['libthread_db.so.1'], // for threads in gdbserver
      data: [
        'usr/libexec/sysstat/sadc',
        'usr/share/nmap/**',
        'usr/share/ltrace/**', // prototypes
        'usr/share/misc/pci.ids',
        'usr/share/perf-core/strace/groups/*',
        ...['dlfilters', 'scripts'].map((name) => `usr/lib/perf-core/${name}/**`),
        // They open windows or write into databases.
        ...['exported-sql-viewer', 'export-to-*', 'sched-migration', 'Perf-Trace-Util/lib/Perf/Trace/SchedGui'].map(
          (name) => `!usr/lib/perf-core/scripts/python/${name}.py`,
        ),
        ...['export-to-*', 'sched-migration-*'].map((name) => `!usr/lib/perf-core/scripts/python/bin/${name}`),
        'usr/lib/{triplet}/perl-base/**', // for scripts of perf
        'usr/share/vim/vim91/**',
        ...['doc', 'lang', 'spell', 'tutor', 'print', 'tools'].map((name) => `!usr/share/vim/vim91/${name}/**`),
      ],
      // gdb looks for its own files and Python's from where it is located; files/ links to it. Scripts in files/ start perf and tcpdump.
      siblings: [
        'usr/bin/gdb',
        'usr/bin/perf',
        'usr/bin/tcpdump',
        'usr/bin/getent',
        'usr/share/gdb/**',
        'usr/lib/python3.13/**',
        ...['ensurepip', 'idlelib', 'lib2to3', 'pydoc_data', 'test', 'tkinter', 'turtledemo', 'unittest'].map(
          (name) => `!usr/lib/python3.13/${name}/**`,
        ),
      ],
    },
  },
);

export default defineExtension({
  name: 'debug-tools',
  summary: 'strace, gdb, perf, tcpdump, nmap, htop, vim, tmux and other tools to inspect a host',
  versions: { kind: 'date', track: 'newest' },
  components: (v) => [packaged('debug-tools', v.version, origin)],
  // Flatcar has some of these, often older or with less compiled in.
  replaces: ['ethtool', 'jq', 'lspci', 'lsof', 'socat', 'strace', 'tcpdump', 'vim'].map((name) => `usr/bin/${name}`),
  waive: {
    'compiled-in-path:usr/lib/*/bfd-plugins': 'plugins of ar and ld, which are not here',
    'compiled-in-path:usr/lib/*/perl/*': 'scripts of perf run on the modules of perl-base',
    'script-interpreter:usr/lib/debug-tools/lib/python3.*/**': "modules that gdb's Python imports, which nobody runs directly",
  },
});
