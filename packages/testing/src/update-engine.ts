// A fake update-engine for tests: com.coreos.update1 on a bus, with GetStatus() → (xdssx) and nothing else.
// The few messages are written by hand (D-Bus specification, "Message Protocol"), because no library for them is maintained.
import { once } from 'node:events';
import type { Socket } from 'node:net';

/** A running fake. */
export interface UpdateEngine {
  /** Sets the answer of GetStatus(). */
  set(operation: string, version: string): void;
  close(): void;
}

/** Bytes in little endian, each value at its alignment. */
class Writer {
  bytes: number[] = [];
  align(to: number): this {
    while (this.bytes.length % to !== 0) this.bytes.push(0);
    return this;
  }
  raw(buffer: Buffer): this {
    this.bytes.push(...buffer);
    return this;
  }
  byte(value: number): this {
    this.bytes.push(value);
    return this;
  }
  u32(value: number): this {
    const buffer = Buffer.alloc(4);
    buffer.writeUInt32LE(value);
    return this.align(4).raw(buffer);
  }
  i64(value: number): this {
    const buffer = Buffer.alloc(8);
    buffer.writeBigInt64LE(BigInt(value));
    return this.align(8).raw(buffer);
  }
  double(value: number): this {
    const buffer = Buffer.alloc(8);
    buffer.writeDoubleLE(value);
    return this.align(8).raw(buffer);
  }
  string(text: string): this {
    return this.u32(Buffer.byteLength(text)).raw(Buffer.from(text)).byte(0);
  }
  signature(text: string): this {
    return this.byte(text.length).raw(Buffer.from(text)).byte(0);
  }
}

/** Header fields: path 1, interface 2, member 3, reply serial 5, destination 6, signature 8. */
function message(type: number, serial: number, fields: readonly (readonly [number, string, string | number])[], body: Writer): Buffer {
  const header = new Writer();
  for (const [code, kind, value] of fields) {
    header.align(8).byte(code).signature(kind);
    if (typeof value === 'number') header.u32(value);
    else if (kind === 'g') header.signature(value);
    else header.string(value);
  }
  const start = new Writer().raw(Buffer.from('l')).byte(type).byte(0).byte(1).u32(body.bytes.length).u32(serial).u32(header.bytes.length);
  // Fields are aligned from the start of the message, and begin at byte 16.
  return Buffer.from(start.raw(Buffer.from(header.bytes)).align(8).raw(Buffer.from(body.bytes)).bytes);
}

/** The header fields of a message that are strings, by their code. */
function stringFields(header: Buffer): Map<number, string> {
  const found = new Map<number, string>();
  for (let at = 0; at < header.length;) {
    at = (at + 7) & ~7;
    const code = header[at] ?? 0;
    const kind = String.fromCodePoint(header[at + 2] ?? 0);
    at += 4; // code, and a signature of one letter
    if (kind === 'g') at += 2 + (header[at] ?? 0);
    else if (kind === 'u') at = ((at + 3) & ~3) + 4;
    else {
      at = (at + 3) & ~3;
      const length = header.readUInt32LE(at);
      found.set(code, header.toString('utf8', at + 4, at + 4 + length));
      at += 5 + length;
    }
  }
  return found;
}

/** Takes update-engine's name on the bus at the other end of a socket, as root. */
export async function startUpdateEngine(socket: Socket): Promise<UpdateEngine> {
  if (socket.connecting) await once(socket, 'connect');
  let status: readonly [string, string] = ['UPDATE_STATUS_IDLE', '0.0.0'];
  let serial = 0;
  socket.write(`\0AUTH EXTERNAL ${Buffer.from('0').toString('hex')}\r\n`);
  const [hello] = (await once(socket, 'data')) as [Buffer];
  if (!hello.toString().startsWith('OK ')) throw new Error(`the bus refused the connection: ${hello.toString()}`);
  socket.write('BEGIN\r\n');
  const bus = (member: string, signature: string, body: Writer): void => {
    const name = 'org.freedesktop.DBus';
    const fields = [
      [1, 'o', '/org/freedesktop/DBus'] as const,
      ...([2, 3, 6] as const).map((code) => [code, 's', code === 3 ? member : name] as const),
    ];
    socket.write(message(1, (serial += 1), signature === '' ? fields : [...fields, [8, 'g', signature]], body));
  };
  bus('Hello', '', new Writer());
  bus('RequestName', 'su', new Writer().string('com.coreos.update1').u32(4));

  let pending = Buffer.alloc(0);
  const owned = Promise.withResolvers<void>();
  socket.on('data', (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk]);
    while (pending.length >= 16) {
      const fieldsLength = pending.readUInt32LE(12);
      const bodyAt = (16 + fieldsLength + 7) & ~7;
      const total = bodyAt + pending.readUInt32LE(4);
      if (pending.length < total) return;
      const [type, asked] = [pending[1], pending.readUInt32LE(8)];
      const fields = stringFields(pending.subarray(16, 16 + fieldsLength));
      pending = pending.subarray(total);
      if (type === 4 && fields.get(3) === 'NameAcquired') owned.resolve();
      if (type !== 1 || fields.get(3) !== 'GetStatus') continue;
      const body = new Writer().i64(1_795_000_000).double(0.5).string(status[0]).string(status[1]).i64(500_000_000);
      const to = fields.get(7) ?? '';
      const answer = [[5, 'u', asked] as const, [6, 's', to] as const, [8, 'g', 'xdssx'] as const];
      socket.write(message(2, (serial += 1), answer, body));
    }
  });
  await owned.promise;
  return {
    set: (operation, version) => {
      status = [operation, version];
    },
    close: () => socket.destroy(),
  };
}
