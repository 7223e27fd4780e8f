/** Flatcar's releases: the catalogue of the checkout that built the page. */
declare module 'virtual:releases' {
  const releases: readonly import('@flatcar/core/browser').Release[];
  export default releases;
}
