import { readFile } from 'node:fs/promises';
import { envOf, HttpError, httpRequest, messageOf, UserError, type Environment } from '@flatcar/core/engine';

/** What signs requests to S3. */
export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
  /** In milliseconds since 1970; undefined if they do not expire. */
  readonly expires?: number;
}

/** An empty variable counts as unset: GitHub's workflows set unconfigured values to the empty string. */
const variable = (env: Environment, ...names: readonly string[]): string | undefined =>
  names.map((name) => envOf(name, env)).find((value) => value !== undefined);

/** The region from the variables that the AWS tools read; by default Amazon's first region. */
export const regionOf = (env: Environment): string => variable(env, 'AWS_REGION', 'AWS_DEFAULT_REGION') ?? 'us-east-1';

/** URL of a service from the variables, by default Amazon's own. Without a trailing slash. */
export function endpointOf(service: 's3' | 'sts', env: Environment): string {
  const region = regionOf(env);
  if (!/^[a-z0-9-]+$/.test(region))
    throw new UserError(`'${region}' is not a valid region`, { where: 'AWS_REGION', next: 'set it to a region such as eu-central-1' });
  const domain = region.startsWith('cn-') ? 'amazonaws.com.cn' : 'amazonaws.com';
  const names = [`AWS_ENDPOINT_URL_${service.toUpperCase()}`, ...(service === 's3' ? ['AWS_ENDPOINT_URL'] : [])];
  const endpoint = variable(env, ...names);
  if (endpoint === undefined) return `https://${service}.${region}.${domain}`;
  if (!/^https?:\/\/[^/\s?#]+/.test(endpoint) || !URL.canParse(endpoint))
    throw new UserError(`'${endpoint}' is not a valid http(s) URL`, {
      where: names.find((name) => env[name] === endpoint) ?? '',
      next: 'set it to the URL of the S3 service, or leave it empty for Amazon',
    });
  return endpoint.replace(/\/+$/, '');
}

/** Exchanges the token of an OpenID provider for credentials of a role (STS AssumeRoleWithWebIdentity, API version 2011-06-15). */
async function assumeRole(role: string, tokenFile: string, env: Environment, signal: AbortSignal | undefined): Promise<Credentials> {
  const url = `${endpointOf('sts', env)}/`;
  const token = (
    await readFile(tokenFile, 'utf8').catch((cause: unknown) => {
      throw new UserError(`the token cannot be read: ${messageOf(cause)}`, { where: `AWS_WEB_IDENTITY_TOKEN_FILE=${tokenFile}`, cause });
    })
  ).trim();
  const form = new URLSearchParams({
    Action: 'AssumeRoleWithWebIdentity',
    Version: '2011-06-15',
    RoleArn: role,
    RoleSessionName: variable(env, 'AWS_ROLE_SESSION_NAME') ?? 'flatcar-ext',
    WebIdentityToken: token,
  });
  const { status, bytes } = await httpRequest(url, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: () => form.toString(),
    idempotent: true, // unreceived credentials expire
    signal,
    max: 1 << 20,
  }).catch((cause: unknown) => {
    if (!(cause instanceof HttpError)) throw cause;
    throw new UserError(`STS cannot be reached: ${cause.message}`, { where: url, next: 'check the network and AWS_REGION', cause });
  });
  const text = bytes.toString();
  const field = (name: string): string | undefined => new RegExp(`<${name}>([^<]+)</${name}>`).exec(text)?.[1];
  const [accessKeyId, secretAccessKey, sessionToken] = [field('AccessKeyId'), field('SecretAccessKey'), field('SessionToken')];
  if (status !== 200 || accessKeyId === undefined || secretAccessKey === undefined || sessionToken === undefined)
    throw new UserError(`STS refuses credentials for the role: ${status} ${field('Code') ?? ''} ${field('Message') ?? ''}`.trimEnd(), {
      where: `AWS_ROLE_ARN=${role}`,
      next: 'check the trust policy of the role: it must allow sts:AssumeRoleWithWebIdentity for this token',
    });
  return { accessKeyId, secretAccessKey, sessionToken, expires: Date.parse(field('Expiration') ?? '') || Date.now() + 900_000 };
}

/**
 * Credentials from the AWS tools' variables: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with AWS_SESSION_TOKEN if they are temporary), else
 * AWS_ROLE_ARN with AWS_WEB_IDENTITY_TOKEN_FILE, which are exchanged again before the credentials expire. Profiles are not read.
 */
export function credentialsOf(where: string, env: Environment, signal?: AbortSignal): () => Promise<Credentials> {
  const [id, secret, sessionToken] = [
    variable(env, 'AWS_ACCESS_KEY_ID'),
    variable(env, 'AWS_SECRET_ACCESS_KEY'),
    variable(env, 'AWS_SESSION_TOKEN'),
  ];
  if (id !== undefined && secret !== undefined) {
    const fixed = { accessKeyId: id, secretAccessKey: secret, sessionToken };
    return async () => fixed;
  }
  const [role, tokenFile] = [variable(env, 'AWS_ROLE_ARN'), variable(env, 'AWS_WEB_IDENTITY_TOKEN_FILE')];
  if (role !== undefined && tokenFile !== undefined) {
    let current: Promise<Credentials> | undefined;
    let until = 0;
    return async () => {
      if (current === undefined || Date.now() > until) {
        until = Number.POSITIVE_INFINITY; // concurrent callers wait for the same response
        current = assumeRole(role, tokenFile, env, signal).then((got) => {
          until = (got.expires ?? 0) - 300_000;
          return got;
        });
        current.catch(() => {
          current = undefined;
        });
      }
      return current;
    };
  }
  const [half, missing] =
    id === undefined ? ['AWS_SECRET_ACCESS_KEY', 'AWS_ACCESS_KEY_ID'] : ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'];
  const isHalf = id !== undefined || secret !== undefined;
  throw new UserError(isHalf ? `no credentials for the bucket: ${half} is set and ${missing} is not` : 'no credentials for the bucket', {
    where,
    next:
      variable(env, 'AWS_PROFILE') === undefined
        ? 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE'
        : 'profiles are not read; run: eval "$(aws configure export-credentials --format env)"',
  });
}
