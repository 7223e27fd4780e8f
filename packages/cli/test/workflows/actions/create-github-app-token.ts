// Stands in for actions/create-github-app-token: a token of the app, of an hour, with what was asked for.
import { input, mask, output, run } from './toolkit.ts';

await run(async () => {
  if (input('client-id') === '' && input('app-id') === '') throw new Error("Either 'client-id' or 'app-id' input must be set");
  if (!input('private-key').includes('PRIVATE KEY')) throw new Error('[@octokit/auth-app] privateKey option is required');
  const asked = Object.entries(process.env).flatMap(([key, level = '']) => {
    const [, scope] = /^INPUT_PERMISSION-(.+)$/.exec(key) ?? [];
    return scope === undefined ? [] : [[scope.toLowerCase(), level]];
  });
  const token = `ghs_app.${Buffer.from(JSON.stringify(Object.fromEntries(asked))).toString('base64url')}`;
  mask(token);
  output('token', token);
  output('app-slug', 'flatcar-extensions');
});
