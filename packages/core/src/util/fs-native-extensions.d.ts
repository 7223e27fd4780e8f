// The package brings no types; only what is used is declared.
declare module 'fs-native-extensions' {
  const native: {
    /** Lock on an open file description (Linux: fcntl F_OFD_SETLK); false when another one holds it. An exclusive one needs a writable descriptor. */
    tryLock(fd: number, options?: { shared?: boolean }): boolean;
    /** The same for some bytes of the file, which need not exist. */
    tryLock(fd: number, offset: number, length: number): boolean;
    unlock(fd: number, offset: number, length: number): void;
    setAttr(fd: number, name: string, value: string | Buffer): Promise<void>;
  };
  export default native;
}
