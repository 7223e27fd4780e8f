import type { Command } from 'commander';
import { addSigningOptions, baseUrlOption, publishKeys, type SigningFlags } from '../published.ts';
import { reporter, show } from '../output/terminal.ts';

interface Flags extends SigningFlags {
  readonly tree: string;
  readonly assets?: string;
  readonly firstPublish?: boolean;
  readonly dropKeys?: boolean;
  readonly baseUrl?: string;
  readonly origins?: string;
  readonly json?: boolean;
}

/** `publish`: images into a tree that nodes take them from. */
export function addPublish(root: Command, signal: AbortSignal): void {
  addSigningOptions(root.command('publish'))
    .description('publish images into a tree that any web server can serve, with signed sums and index')
    .argument('[dirs...]', 'folders that build and bind wrote; none: sign what is published anew after a change of keys or URL')
    .requiredOption('--tree <where>', 'folder, or s3://bucket/prefix (AWS_* variables; AWS_ENDPOINT_URL for other services)')
    .option(
      '--assets <where>',
      'put images into releases of a repository, github:owner/name (GITHUB_TOKEN), with redirects to them in the tree',
    )
    .addOption(baseUrlOption())
    .option(
      '--first-publish',
      'make this the root of a new tree: for a bucket, or a folder that has other files (an empty folder needs no flag)',
    )
    .option('--drop-keys', 'take OpenPGP keys that are neither in --keys nor in --keyring out of the published keyring')
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
  FLATCAR_EXT_ROOTHASH_CERTIFICATE   PEM certificate of the key that signed disk images, published for nodes
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, or AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE; AWS_REGION, AWS_ENDPOINT_URL

Examples:
  flatcar-ext publish extensions/*/dist --tree /srv/extensions --keys ~/dev-keys --base-url https://extensions.example.org
  flatcar-ext publish images --tree s3://extensions/stable --first-publish --base-url https://extensions.example.org`,
    )
    .action(async (dirs: string[], flags: Flags) => {
      const { localPath, openDestination, publish } = await import('@flatcar/publish');
      const paths = dirs.map((one) =>
        localPath(one, 'publish', 'name folders that flatcar-ext build or bind wrote; the tree they go to is --tree'),
      );
      const destination = openDestination(flags.tree, { assets: flags.assets, signal });
      const keys = await publishKeys(flags);
      const { report, done } = await reporter();
      const result = await publish({
        paths,
        destination,
        keys,
        baseUrl: flags.baseUrl,
        firstPublish: flags.firstPublish === true,
        dropKeys: flags.dropKeys === true,
        unsigned: flags.unsigned === true,
        origins: flags.origins === 'preferred' ? flags.origins : flags.origins?.split(','),
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
