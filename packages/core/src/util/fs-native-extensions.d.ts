// The package has no types; only the functions in use are declared.
declare module 'fs-native-extensions' {
  const native: {
    /** Lock on an open file description (Linux: fcntl F_OFD_SETLK); false while another description holds it. An exclusive lock needs a writable descriptor. */
    tryLock(fd: number, options?: { shared?: boolean }): boolean;
    /** Locks some bytes of the file, which need not exist. */
    tryLock(fd: number, offset: number, length: number): boolean;
    unlock(fd: number, offset: number, length: number): void;
    setAttr(fd: number, name: string, value: string | Buffer): Promise<void>;
  };
  export default native;
}
