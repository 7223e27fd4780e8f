// One connection of a machine's network to the server of its files: QEMU starts this for each (guestfwd), with the port.
import { connect } from 'node:net';

const server = connect(Number(process.argv[2]), '127.0.0.1');
process.stdin.pipe(server).pipe(process.stdout);
