// The published tree: what other packages may use of it.
export * from './schema.ts';
export * from './layout.ts';
export * from './transfer.ts';
