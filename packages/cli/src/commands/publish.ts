import type { Command } from 'commander';
import { baseUrlOption, keysOption, openDestination } from '../published.ts';
import { reporter, show } from '../terminal.ts';

interface Flags {
  readonly to: string;
  readonly assets?: string;
  readonly keys?: string;
  readonly baseUrl?: string;
  readonly origins?: string;
  readonly json?: boolean;
}

/** `publish`: images into a tree that nodes take them from. */
export function addPublish(root: Command, signal: AbortSignal): void {
  root
    .command('publish')
    .description('publish images into a tree that any web server can serve, with signed sums and index')
    .argument('[dirs...]', 'folders that build and bind wrote; none: sign what is published anew after a change of keys or URL')
    .requiredOption('--to <where>', 'folder, or s3://bucket/prefix (AWS_* variables; AWS_ENDPOINT_URL for other services)')
    .option(
      '--assets <where>',
      'put images into releases of a repository, github:owner/name (GITHUB_TOKEN), with redirects to them in the tree',
    )
    .addOption(keysOption())
    .addOption(baseUrlOption())
    .option(
      '--origins <list>',
      'for the first publish into a tree: the origins that it accepts (release, go, cargo, debian, source), instead of those that definitions prefer; it stands in the index',
    )
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Images are staged by their digests, checked as a node would, signed, and appear with their sums; the index comes last. Whatever fails before
leaves what is served as it was, and running it again completes it. A published name never changes its bytes.

Refused are images of the profile 'fast', of fixtures, of some components only, made by a tool that is not the pinned one, or with a component
from an origin that the tree does not declare.

Environment:
  FLATCAR_EXT_KEYS         folder of keys (flatcar-ext keys init)
  FLATCAR_EXT_SUMS_KEY     armored OpenPGP private key, in addition to or instead of a folder
  FLATCAR_EXT_UPDATE_KEY   PEM RSA private key for update payloads

Examples:
  flatcar-ext publish extensions/*/dist --to /srv/extensions --keys ~/dev-keys --base-url https://extensions.example.org
  flatcar-ext publish images --to s3://extensions/stable`,
    )
    .action(async (dirs: string[], flags: Flags) => {
      const { loadKeys, publish } = await import('@flatcar/publish');
      const { report, done } = await reporter();
      const result = await publish({
        paths: dirs,
        destination: await openDestination(flags.to, flags.assets),
        keys: await loadKeys(flags.keys),
        ...(flags.baseUrl === undefined ? {} : { baseUrl: flags.baseUrl }),
        ...(flags.origins === undefined
          ? {}
          : { origins: flags.origins === 'preferred' ? 'preferred' : flags.origins.split(',').map((one) => one.trim()) }),
        report,
        signal,
      }).finally(done);
      show(result, flags.json, ({ where, serial, added, unchanged, signed }) =>
        [
          ...added.map((path) => `published ${path}`),
          `${added.length} images published, ${unchanged} were there already; sums of ${signed.length} folders signed; index ${serial} at ${where}`,
        ].join('\n'),
      );
    });
}
