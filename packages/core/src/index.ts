// The public face of core: all that extensions and the other packages may import.
export * from './types.ts';
export * from './errors.ts';
export * from './arch.ts';
export * from './names.ts';
export * from './pins.ts';
export * from './extension.ts';
