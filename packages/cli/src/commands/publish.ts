import { UsageError } from '@flatcar/core/engine';
import type { Command } from 'commander';
import { addSigningOptions, baseUrlOption, type SigningFlags, assetsOption, treeOption } from '../published.ts';
import { publishKeys } from '@flatcar/workspace/given-keys';
import { addHelp } from '../help.ts';
import { jsonOption } from '../options.ts';
import { reporter } from '../output/reporter.ts';
import { show } from '../output/terminal.ts';

interface Flags extends SigningFlags {
  readonly tree: string;
  readonly assets?: string;
  readonly firstPublish?: boolean;
  readonly dropKeys?: boolean;
  readonly timestamp?: boolean;
  readonly acceptExpired?: boolean;
  readonly acceptRevoked?: boolean;
  readonly baseUrl?: string;
  readonly origins?: string;
  readonly page: boolean;
  readonly json?: boolean;
}

/** `publish`: images into a tree that nodes take them from. */
export function addPublish(root: Command, signal: AbortSignal): void {
  const command = addSigningOptions(root.command('publish'))
    .summary('publish images into a tree, signed')
    .description('publish images into a tree that any web server can serve, with signed metadata and sums')
    .argument('[dirs...]', 'folders that build or bind wrote; without folders, sign again what is published')
    .addOption(treeOption())
    .addOption(assetsOption())
    .addOption(baseUrlOption())
    .option('--first-publish', 'create a new tree in a bucket, or in a folder that has other files (an empty folder needs no flag)')
    .option('--timestamp', 'only sign the timestamp again: clients accept the tree for 7 more days; needs no other key')
    .option('--accept-expired', 'sign a tree again whose metadata has expired, after you have checked that it is the newest')
    .option('--accept-revoked', 'sign an index again that a revoked targets key signed, after you have compared it')
    .option('--drop-keys', 'remove OpenPGP keys from the published keyring that are in neither --keys nor --keyring')
    .option(
      '--origins <list>',
      'with the first publish: origins that the tree accepts (upstream, go, cargo, debian, source); the index records them',
    )
    .option('--no-page', 'do not write the catalogue page, index.html')
    .addOption(jsonOption())
    .action(async (dirs: string[], flags: Flags) => {
      const [{ openStore }, { loadMetadataKeys, localPath, openDestination, publish, renewTimestamp }] = await Promise.all([
        import('@flatcar/core/engine'),
        import('@flatcar/publish'),
      ]);
      const paths = dirs.map((one) =>
        localPath(one, 'publish', 'name folders that flatcar-ext build or bind wrote; the tree they go to is --tree'),
      );
      const destination = openDestination(flags.tree, { assets: flags.assets, signal });
      const acceptExpired = flags.acceptExpired === true;
      if (flags.timestamp === true) {
        if (paths.length > 0)
          throw new UsageError('--timestamp publishes no images', { where: 'publish', next: 'omit it, or the folders' });
        const renewed = await renewTimestamp(destination, await loadMetadataKeys(flags.keys, process.env, flags.root), {
          acceptExpired,
          signal,
        });
        return show(
          renewed,
          flags.json,
          ({ where, serial, version, expires }) => `timestamp ${version} for index ${serial} at ${where}, valid until ${expires}`,
        );
      }
      const keys = await publishKeys(flags);
      const { report, done } = await reporter();
      const { buildPage } = await import('@flatcar/site/page');
      const result = await publish({
        page: flags.page ? await buildPage(openStore()) : undefined,
        paths,
        destination,
        keys,
        baseUrl: flags.baseUrl,
        firstPublish: flags.firstPublish === true,
        dropKeys: flags.dropKeys === true,
        acceptExpired,
        acceptRevoked: flags.acceptRevoked === true,
        unsigned: flags.unsigned === true,
        origins: flags.origins === 'preferred' ? flags.origins : flags.origins?.split(','),
        store: openStore(),
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
  addHelp(command, {
    text: [
      'Images are uploaded, checked as a node would check them, and signed; the timestamp comes last. A failure before that changes nothing that is served, and the next run completes it. A published name never changes its bytes.',
      'Nodes that have a former image fetch a delta instead of a whole image: publish makes deltas, checks each by applying it, and keeps small ones (docs/deltas.md).',
      'Images of the profile fast, of test fixtures, of some components only, or made by a tool that is not the pinned one are refused, as are components from an origin that the tree does not accept.',
    ],
    environment: {
      FLATCAR_EXT_KEYS: 'default of --keys',
      FLATCAR_EXT_ROOT: 'default of --root',
      FLATCAR_EXT_TARGETS_KEY: 'with FLATCAR_EXT_SNAPSHOT_KEY and FLATCAR_EXT_TIMESTAMP_KEY: PEM keys of the metadata, instead of --keys',
      FLATCAR_EXT_SUMS_KEY: 'armored OpenPGP private key, in addition to --keys or instead of it',
      FLATCAR_EXT_UPDATE_KEY: 'PEM RSA private key for update payloads',
      FLATCAR_EXT_ROOTHASH_CERTIFICATE: 'PEM certificate of the key that signed disk images; it is published for nodes',
      AWS_ACCESS_KEY_ID: 'with AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN: credentials of the bucket',
      AWS_ROLE_ARN: 'with AWS_WEB_IDENTITY_TOKEN_FILE: the same, by a role',
      AWS_REGION: 'region of the bucket',
      AWS_ENDPOINT_URL: 'URL of an S3 service that is not Amazon',
      GITHUB_TOKEN: 'for --assets',
    },
    examples: [
      'flatcar-ext publish extensions/*/dist --tree /srv/extensions --keys ~/dev-keys --base-url https://extensions.example.org',
      'flatcar-ext publish images --tree s3://extensions/stable --first-publish --base-url https://extensions.example.org',
      'flatcar-ext publish --timestamp --tree s3://extensions/stable',
    ],
  });
}
