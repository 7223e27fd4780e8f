declare module 'fs-native-extensions' {
  /** Kernel locks (fcntl OFD) that die with their file descriptor, and extended attributes. */
  const native: {
    waitForLock(fd: number): Promise<void>;
    tryLock(fd: number): boolean;
    unlock(fd: number): void;
    setAttr(fd: number, name: string, value: string | Buffer): Promise<void>;
    getAttr(fd: number, name: string): Promise<Buffer | null>;
    listAttrs(fd: number): Promise<string[]>;
  };
  export default native;
}
