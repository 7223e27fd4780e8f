/** A workflow, as the identity of a sigstore certificate names it. */
export interface WorkflowIdentity {
  /** URL of the repository that contains the workflow; for a reusable workflow this is not the repository that ran it. */
  readonly repository: string;
  /** Ref of the workflow's file, behind the `@`. */
  readonly ref: string;
}

/**
 * Reads the identity that Fulcio issues to workflows (sigstore/fulcio docs/oidc.md): `https://github.com/OWNER/REPO/.github/workflows/FILE@REF`,
 * and `https://gitlab.com/GROUP/PROJECT//FILE@REF` for GitLab. Returns undefined for a person or a service account.
 */
export function workflowOf(identity: string): WorkflowIdentity | undefined {
  const [, repository, ref] = /^(https:\/\/[^/@]+\/[^@]+?)\/(?:\.github\/workflows\/|\/)[^/@][^@]*@(.*)$/.exec(identity) ?? [];
  return repository === undefined || ref === undefined ? undefined : { repository, ref };
}
