import { createSocket } from 'node:dgram';
import { expect, expectOwnObjects, freePort, testExtension, testRealUse, testRelocated, traced, type RealUse } from '@flatcar/testing';

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

/** Every program (of two the ELF file that a script starts), and what it says when it is asked for its version, or for help where it knows no version. */
const says: Readonly<Record<string, RegExp>> = {
  'strace --version': /^strace -- version 6\.13/,
  'ltrace --version': /^ltrace 0\.7\.91/,
  'gdb --version': /^GNU gdb/,
  'gdbserver --version': /^GNU gdbserver/,
  [`${folder}/bin/perf --version`]: /^perf version 6\.12/,
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
  [`${folder}/bin/tcpdump --version`]: /^tcpdump version 4\.99/,
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

const raw = String.raw;
const noTracing = { except: { emulated: 'qemu-user does not emulate ptrace' } };
const noEvents = { except: { emulated: 'qemu-user does not emulate perf events' } };
const RECORD = "perf record -q -o data -e cpu-clock jq -n '[range(200000)|tostring]|length' >length";
const PING = 'until [ -e stop ]; do busybox ping -c 1 127.0.0.1; sleep 0.2; done >/dev/null &';

const tracing: readonly RealUse[] = [
  {
    does: 'strace follows a program and its children, with the paths of descriptors (`-f -y`)',
    run: 'strace -f -y -e trace=openat sh -c "cat /etc/passwd; true" 2>&1',
    gives: /^\[pid +\d+\] openat\(AT_FDCWD<\/tmp\/\S+>, "\/etc\/passwd", .*\) = 3<\/etc\/passwd>$/m,
    ...noTracing,
  },
  {
    does: 'strace makes system calls fail (`-e inject`)',
    run: 'strace -e inject=openat:error=ENOENT cat /etc/passwd 2>&1 || true',
    gives: /ENOENT .*\(INJECTED\)/,
    ...noTracing,
  },
  {
    does: 'ltrace shows arguments by the prototypes of libraries',
    run: 'ltrace -e strrchr file /etc/passwd 2>&1',
    gives: /strrchr\("[^"]*file", '\/'\)/,
    ...noTracing,
  },
  {
    does: 'gdb attaches to a process',
    run: 'sleep 100 & gdb -nx -batch -ex "info proc" -p $!',
    gives: /^cmdline = 'sleep 100'$/m,
    ...noTracing,
  },
  {
    does: 'gdb writes a core file of a process, and reads it',
    run: 'sleep 100 & gdb -nx -batch -ex "generate-core-file core" -p $! >/dev/null 2>&1; gdb -nx -batch -ex "print \\$pc" -c core',
    gives: /^Core was generated by `\S*sleep 100'\.[^]*^\$1 = \(void \(\*\)\(\)\) 0x/m,
    ...noTracing,
  },
  {
    does: 'gdb debugs a program by gdbserver',
    run: 'gdb -nx -batch -ex "target remote | gdbserver - /usr/bin/busybox true" -ex "info inferiors" -ex kill 2>&1',
    gives: /^\* 1 +process \d+/m,
    ...noTracing,
  },
  {
    does: 'gdb prints strings of a program in Latin-1',
    run: raw`sleep 100 & gdb -nx -batch -ex "set host-charset UTF-8" -ex "set target-charset ISO-8859-1" -ex 'print "caf\351"' -p $! 2>&1`,
    gives: /^\$1 = "café"$/m,
    ...noTracing,
  },
  {
    does: 'gdb runs Python with modules of the standard library',
    run: `gdb -nx -batch -ex 'python import asyncio, bz2, ctypes, curses, decimal, json, lzma, readline, sqlite3, ssl, zlib; print(json.dumps({"a": zlib.crc32(b"a")}))'`,
    gives: '{"a": 3904355907}',
  },
  {
    does: "gdb's Python fetches over https, by a CA of the host",
    run: `gdb -nx -batch -ex "python import urllib.request; print(urllib.request.urlopen('$TRUSTED').read())"`,
    gives: String.raw`b'hello over TLS\n'`,
  },
  {
    does: 'perf counts events of a program (`stat`)',
    run: 'perf stat -e task-clock true 2>&1',
    gives: /msec +task-clock/,
    ...noEvents,
  },
  {
    does: 'perf samples a program and reports its functions (`record`, `report`)',
    run: `${RECORD}; perf report -i data --stdio -s symbol 2>/dev/null | grep -c jv_; cat length`,
    gives: /^[1-9]\d*\n200000$/,
    ...noEvents,
  },
  {
    does: 'perf shows the instructions of a function (`annotate`)',
    run: `${RECORD}; perf annotate -i data --stdio -d libjq.so.1 jv_free 2>&1`,
    gives: /Disassembly of section \.text/,
    ...noEvents,
  },
  { does: 'perf lists scripts (`script -l`)', run: 'perf script -l', gives: /^ +wakeup-latency [^]*^ +stackcollapse /m },
  {
    does: 'perf runs a script in Python',
    run: `${RECORD}; printf 'import json\\ndef process_event(d): seen.add(d["comm"])\\nseen = set()\\ndef trace_end(): print(json.dumps(sorted(seen)))\\n' >x.py; perf script -i data -s x.py`,
    gives: /\["jq"|, "jq"/,
    ...noEvents,
  },
  {
    does: 'perf runs a script in Perl',
    run: `${RECORD}; echo 'use strict; use List::Util qw(max); my $n = 0; sub process_event { $n++ } sub trace_end { print "some: ", max($n, 0) > 0, "\\n" }' >x.pl; perf script -i data -s x.pl`,
    gives: 'some: 1',
    ...noEvents,
  },
  {
    does: "perf keeps its Python's and Perl's settings from the programs that it starts",
    run: `PYTHONHOME=${folder} PERL5LIB=${folder}/perl-base:/opt/mine perf record -q -o data -e cpu-clock sh -c 'echo "\${PYTHONHOME-none} \${PERL5LIB-none}"'`,
    gives: 'none /opt/mine',
    ...noEvents,
  },
];

const network: readonly RealUse[] = [
  {
    does: 'tcpdump writes packets to a file and reads it, on a host without a user `tcpdump`',
    run: `${PING} tcpdump -q -i lo -c 1 -w packets icmp 2>/dev/null; touch stop; tcpdump -nr packets 2>/dev/null`,
    gives: /IP 127\.0\.0\.1 > 127\.0\.0\.1: ICMP echo re(?:quest|ply)/,
    except: { emulated: 'qemu-user does not emulate packet sockets' },
  },
  {
    does: 'tcpdump gives up root for the user `tcpdump` on a host that has it',
    run: `chmod 777 .; echo 'tcpdump:x:972:972::/:/bin/false' >>/etc/passwd; echo 'tcpdump:x:972:' >>/etc/group; trap 'sed -i /^tcpdump:/d /etc/passwd /etc/group' EXIT
${PING} tcpdump -q -i lo -c 1 -w packets icmp 2>/dev/null; touch stop; ls -n packets | tr -s ' ' | cut -d' ' -f3`,
    gives: '972',
    except: { emulated: 'qemu-user does not emulate packet sockets' },
  },
  {
    does: 'nmap scans ports, by connections and by bare packets (`-sT`, `-sS`)',
    run: 'for how in -sT -sS; do nmap -n -Pn $how -p $PORT 127.0.0.1 | grep ^$PORT/tcp; done',
    gives: /^\d+\/tcp +open .*\n\d+\/tcp +open /,
    except: { emulated: 'qemu-user does not emulate packet sockets' },
  },
  {
    does: 'nmap runs scripts (`--script ssl-cert`)',
    run: 'nmap --unprivileged -n -Pn -p $PORT --script ssl-cert 127.0.0.1',
    gives: /ssl-cert: Subject: commonName=trusted server/,
  },
  {
    does: 'ncat and socat speak TLS, verify by a CA of the host, and refuse others',
    run: `request() { printf 'GET / HTTP/1.0\\r\\n\\r\\n'; }
for port in $PORT $STRANGER_PORT; do
  request | ncat --ssl-verify --ssl-servername localhost 127.0.0.1 $port 2>/dev/null | grep hello || echo ncat refuses
  request | socat - OPENSSL:127.0.0.1:$port 2>/dev/null | grep hello || echo socat refuses
done`,
    gives: 'hello over TLS\nhello over TLS\nncat refuses\nsocat refuses',
  },
  {
    does: 'dig and host ask a name server',
    run: 'dig @127.0.0.1 -p $DNS +short a.example.test; host -p $DNS a.example.test 127.0.0.1 | tail -1',
    gives: /^192\.0\.2\.7\na\.example\.test has address 192\.0\.2\.7/,
  },
  {
    does: 'mtr and traceroute show the way to a host',
    run: 'mtr -n -j -c 1 127.0.0.1 | jq -r ".report.hubs[0].host"; traceroute -n 127.0.0.1 | tail -1',
    gives: /^127\.0\.0\.1\n 1 {2}127\.0\.0\.1 /,
    except: { emulated: 'qemu-user does not emulate raw sockets' },
  },
  {
    does: 'iperf3 measures a connection',
    run: 'iperf3 -s -1 -p $FREE >/dev/null & sleep 1; iperf3 -c 127.0.0.1 -p $FREE -t 1 -J | jq ".end.sum_received.bytes > 0"',
    gives: 'true',
  },
];

const others: readonly RealUse[] = [
  {
    does: 'lsof, fuser and killall find who has a file, and end it',
    run: 'sleep 100 >f & pid=$!; sleep 0.2; [ "$(lsof -t f)" = $pid ]; [ "$(fuser f 2>/dev/null | tr -d " ")" = $pid ]; killall -w sleep; fuser f 2>/dev/null || echo nobody',
    gives: /nobody$/,
    except: { emulated: 'the processes that they find are called by the emulator' },
  },
  {
    does: 'sar records load, sadf prints it as JSON; iostat does, too',
    run: 'sar -o f 1 1 >/dev/null; sadf -j f -- -u | jq -r ".sysstat.hosts[0].statistics[0].\\"cpu-load\\"[0].cpu"; iostat -o JSON -c | jq -r ".sysstat.hosts[0].sysname"',
    gives: 'all\nLinux',
  },
  {
    does: 'tmux shows UTF-8 on a host without a locale, and htop runs in it',
    run: `tmux -f /dev/null new -d -x 100 -y 30 'printf "caf\\303\\251\\n"; sleep 100'; tmux split-window -d htop; sleep 3; tmux capture-pane -p -t .0 | head -1; tmux capture-pane -p -t .1 | grep -o Tasks:`,
    gives: 'café\nTasks:',
    except: { emulated: 'qemu-user does not emulate what tmux does with its sockets' },
  },
  {
    does: 'vim reads text in another character set (`:e ++enc=cp1252`)',
    run: raw`printf 'caf\351 \200\n' >f; vim -es -u NONE --cmd 'set encoding=utf-8' '+e ++enc=cp1252 f' '+w! ++enc=utf-8 g' '+q!'; cat g`,
    gives: 'café €',
  },
  {
    does: 'vim has its defaults and syntax files',
    run: `echo 'if true; then' >f.sh; vim -es -u DEFAULTS f.sh '+syntax on' '+set filetype=sh' '+redir! >out' '+silent! syntax list shIf' '+redir END' '+q!' || true; cat out`,
    gives: /shIf +xxx/,
  },
  {
    does: 'jq reads dates and matches patterns',
    run: `echo '{"at":"2026-01-02T03:04:05Z","is":"été"}' | jq -c '[(.at|fromdate), (.is|test("^\\\\p{L}{3}$"))]'`,
    gives: '[1767323045,true]',
  },
  {
    does: 'file knows types by its database, in compressed files too (`-z`)',
    run: `printf 'GIF89a' >f; file -b --mime-type f; gzip f; file -bz f.gz; printf 'caf\\303\\251\\n' | file -b --mime-encoding -`,
    gives: /^image\/gif\nGIF image data.*\nutf-8$/,
  },
  {
    does: 'lspci names devices',
    run: `printf '00:00.0 x\\n00: 86 80 37 12 00 00 00 00 02 00 00 06 00 00 00 00\\n' >f; lspci -F f`,
    gives: /^00:00\.0 Host bridge: Intel Corporation 440FX/,
  },
  {
    does: 'readelf, objdump and strings read programs',
    run: `library=${folder}/libc.so.6; readelf -hW $library | grep Type:; objdump -d -j .text $library | grep -c -m1 '>:$'; strings $library | grep -o -m1 'GNU C Library'`,
    gives: /^ *Type: +DYN[^\n]*\n1\nGNU C Library$/,
  },
  {
    does: 'xxd, tree and pv work on files',
    run: `echo 68690a | xxd -r -p >f; cat f; mkdir d; touch d/a; tree --noreport d; pv -q f | xxd -p`,
    gives: 'hi\nd\n`-- a\n68690a',
  },
];

/** Answers every question for an address with 192.0.2.7, and all others with nothing (RFC 1035, 4.1). */
function answerDns(question: Buffer): Buffer {
  const end = question.indexOf(0, 12) + 5;
  const isAddress = question.readUInt16BE(end - 4) === 1;
  const head = Buffer.from(question.subarray(0, 12));
  head.writeUInt16BE(0x85_80, 2); // an answer, authoritative, recursion available
  for (const [index, count] of [1, isAddress ? 1 : 0, 0, 0].entries()) head.writeUInt16BE(count, 4 + index * 2);
  const answer = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
  return Buffer.concat([head, question.subarray(12, end), ...(isAddress ? [answer] : [])]);
}

testRealUse(import.meta.dirname, {
  uses: [...tracing, ...network, ...others],
  async withServers({ tls }, rows) {
    const dns = createSocket('udp4', (question, from) => dns.send(answerDns(question), from.port, from.address));
    await new Promise<void>((resolve) => dns.bind(0, '127.0.0.1', resolve));
    try {
      await rows({
        PORT: String(tls.trusted.port),
        STRANGER_PORT: String(tls.stranger.port),
        TRUSTED: tls.trusted.url,
        DNS: String(dns.address().port),
        FREE: String(await freePort()),
      });
    } finally {
      dns.close();
    }
  },
});
