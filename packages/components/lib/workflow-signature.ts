import type { SigstoreSignature } from '@flatcar/core';

/** A signature without keys, made in a workflow on GitHub's runners. */
export function workflowSignature(identity: string, bundle: string): SigstoreSignature {
  return { kind: 'sigstore', issuer: 'https://token.actions.githubusercontent.com', identity, bundle };
}

/** Docker builds its command line plugins in this workflow, which any project may call: the plugin's own repository must have run it. */
export function dockerBuilderSignature(source: string): SigstoreSignature {
  const workflow = 'https://github.com/docker/github-builder/.github/workflows/bake.yml@*';
  return { ...workflowSignature(workflow, '{url}.sigstore.json'), source, ref: 'refs/tags/v{version}' };
}
