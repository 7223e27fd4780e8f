import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openStore } from '@flatcar/core/engine';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { readPublished, s3Destination, type Destination } from '../src/index.ts';
import { endpointOf, regionOf } from '../src/destinations/s3-credentials.ts';
import { noMemory } from '../src/tree/memory.ts';

/** A client that has not read the tree before. */
const NEW = { firstUse: true, memory: noMemory };

// Which credentials, region and host requests to a bucket are made with. Signatures are checked by a real server in s3.merge.test.ts.
const KEYS = { AWS_ACCESS_KEY_ID: 'AKID', AWS_SECRET_ACCESS_KEY: 'a secret' };
interface Asked {
  readonly method: string | undefined;
  readonly url: string | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}
let dir: string;
let server: Server;
let url: string;
let asked: Asked[] = [];
let answer: (one: Asked) => { status: number; headers?: Record<string, string>; body?: string };

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 's3-'));
  server = createServer((request, response) => {
    void (async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const one = { method: request.method, url: request.url, headers: request.headers, body: Buffer.concat(chunks).toString() };
      asked.push(one);
      const { status, headers = {}, body } = answer(one);
      response.writeHead(status, headers).end(body);
    })();
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await rm(dir, { recursive: true, force: true });
});
beforeEach(() => {
  asked = [];
  answer = () => ({ status: 404, body: '<Error><Code>NoSuchKey</Code></Error>' });
});

const place = (env: Record<string, string>): Destination =>
  s3Destination('s3://bucket/prefix', { AWS_ENDPOINT_URL: url, ...env }, openStore());

test('empty variables are unset ones: as GitHub gives what is not configured', () => {
  const empty = {
    AWS_REGION: '',
    AWS_DEFAULT_REGION: '',
    AWS_ENDPOINT_URL: '',
    AWS_ENDPOINT_URL_S3: '',
    AWS_SESSION_TOKEN: '',
    AWS_PROFILE: '',
  };
  expect(endpointOf('s3', empty)).toBe('https://s3.us-east-1.amazonaws.com');
  expect(endpointOf('s3', { ...empty, AWS_REGION: 'eu-west-1' })).toBe('https://s3.eu-west-1.amazonaws.com');
  expect(endpointOf('s3', { ...empty, AWS_DEFAULT_REGION: 'eu-west-1' })).toBe('https://s3.eu-west-1.amazonaws.com');
  expect(endpointOf('s3', { AWS_REGION: 'cn-north-1' })).toBe('https://s3.cn-north-1.amazonaws.com.cn');
  expect(endpointOf('s3', { ...empty, AWS_ENDPOINT_URL: 'https://minio.example.org/' })).toBe('https://minio.example.org');
  expect(endpointOf('s3', { AWS_ENDPOINT_URL_S3: 'https://one.example.org', AWS_ENDPOINT_URL: 'https://two.example.org' })).toBe(
    'https://one.example.org',
  );
  expect(endpointOf('sts', { AWS_ENDPOINT_URL: 'https://minio.example.org', AWS_REGION: 'eu-west-1' })).toBe(
    'https://sts.eu-west-1.amazonaws.com',
  );
  expect(regionOf({ AWS_REGION: '', AWS_DEFAULT_REGION: 'x-1' })).toBe('x-1');
  expect(() => s3Destination('s3://bucket', { ...KEYS, ...empty })).not.toThrow();
  expect(() => endpointOf('s3', { AWS_ENDPOINT_URL: 'minio:9000' })).toThrow("'minio:9000' is not a valid http(s) URL");
  expect(() => endpointOf('s3', { AWS_REGION: 'eu/../x' })).toThrow('is not a valid region');
});

test('missing credentials say what is missing, and what to do about a profile', () => {
  expect(() => s3Destination('s3://bucket', {})).toThrow('no credentials for the bucket');
  expect(() => s3Destination('s3://bucket', { AWS_ACCESS_KEY_ID: '', AWS_SECRET_ACCESS_KEY: '' })).toThrow('no credentials for the bucket');
  expect(() => s3Destination('s3://bucket', { AWS_ACCESS_KEY_ID: 'a' })).toThrow(
    'AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not',
  );
  expect(() => s3Destination('s3://bucket', { AWS_PROFILE: 'work' })).toThrow(
    expect.objectContaining({ next: expect.stringContaining('export-credentials') }),
  );
});

test('temporary credentials of aws-actions/configure-aws-credentials are used with their session token', async () => {
  const env = { ...KEYS, AWS_SESSION_TOKEN: 'a session', AWS_DEFAULT_REGION: 'eu-central-1', AWS_REGION: 'eu-central-1' };
  expect(await place(env).read('index.json')).toBe(undefined);
  expect(asked).toMatchObject([{ method: 'GET', url: '/bucket/prefix/index.json', headers: { 'x-amz-security-token': 'a session' } }]);
  expect(asked[0]?.headers.authorization).toMatch(/Credential=AKID\/\d+\/eu-central-1\/s3\/aws4_request/);
  asked = [];
  await place({ ...KEYS, AWS_SESSION_TOKEN: '' }).read('index.json');
  expect(asked[0]?.headers).not.toHaveProperty('x-amz-security-token');
});

test('a role is assumed with the token of an OpenID provider, once while it lasts, and again before it ends', async () => {
  const tokenFile = join(dir, 'token');
  await writeFile(tokenFile, 'a.web.token\n');
  let lasts = 3600;
  answer = ({ method }) =>
    method === 'POST'
      ? {
          status: 200,
          body: `<R><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>from sts</SessionToken><Expiration>${new Date(Date.now() + lasts * 1000).toISOString()}</Expiration></Credentials></R>`,
        }
      : { status: 404 };
  const env = {
    AWS_ROLE_ARN: 'arn:aws:iam::1:role/publish',
    AWS_WEB_IDENTITY_TOKEN_FILE: tokenFile,
    AWS_ENDPOINT_URL_STS: url,
    AWS_ACCESS_KEY_ID: '',
    AWS_SECRET_ACCESS_KEY: '',
  };
  const bucket = place(env);
  await Promise.all([bucket.read('a'), bucket.read('b')]);
  await bucket.read('c');
  expect(asked.map(({ method }) => method).toSorted()).toEqual(['GET', 'GET', 'GET', 'POST']);
  expect(Object.fromEntries(new URLSearchParams(asked[0]?.body))).toEqual({
    Action: 'AssumeRoleWithWebIdentity',
    Version: '2011-06-15',
    RoleArn: 'arn:aws:iam::1:role/publish',
    RoleSessionName: 'flatcar-ext',
    WebIdentityToken: 'a.web.token',
  });
  expect(asked[1]?.headers).toMatchObject({ 'x-amz-security-token': 'from sts' });
  asked = [];
  lasts = 60;
  const short = place(env);
  await short.read('a');
  await short.read('b');
  expect(asked.filter(({ method }) => method === 'POST')).toHaveLength(2);
  answer = () => ({ status: 403, body: '<E><Code>AccessDenied</Code><Message>Not authorized</Message></E>' });
  await expect(place(env).read('a')).rejects.toThrow('STS refuses credentials for the role: 403 AccessDenied Not authorized');
});

test('a signed request follows no redirect, and says which region or right is missing', async () => {
  answer = () => ({
    status: 301,
    headers: { location: 'http://127.0.0.1:1/', 'x-amz-bucket-region': 'eu-west-3' },
    body: '<Error><Code>PermanentRedirect</Code></Error>',
  });
  await expect(place(KEYS).read('index.json')).rejects.toMatchObject({
    message: 'the bucket answered 301 PermanentRedirect',
    next: expect.stringContaining('AWS_REGION=eu-west-3'),
  });
  expect(asked).toHaveLength(1);
  answer = () => ({ status: 403, body: '<Error><Code>AccessDenied</Code></Error>' });
  await expect(readPublished(place(KEYS), NEW, { firstPublish: true })).rejects.toMatchObject({
    next: expect.stringContaining('s3:ListBucket'),
  });
  answer = () => ({ status: 404, body: '<Error><Code>NoSuchBucket</Code></Error>' });
  await expect(readPublished(place(KEYS), NEW, { firstPublish: true })).rejects.toThrow('there is no such bucket');
});

test('a plus sign in a key is %2B, and an image has a second name for clients that do not write it so', async () => {
  const file = join(dir, 'image');
  await writeFile(file, 'image');
  const there = new Set<string>();
  answer = ({ method, url: path = '' }) => {
    if (method === 'HEAD') return { status: there.has(path) ? 200 : 404 };
    there.add(path);
    return { status: 200 };
  };
  await place(KEYS).putOver('k3s/portable/k3s.portable_1.33.1+k3s1_x86-64.raw', file, {
    size: 5,
    sha256: '6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d',
  });
  expect(asked.map(({ method, url: path }) => `${method} ${path}`)).toEqual([
    'HEAD /bucket/prefix/k3s/portable/k3s.portable_1.33.1%2Bk3s1_x86-64.raw',
    'PUT /bucket/prefix/k3s/portable/k3s.portable_1.33.1%2Bk3s1_x86-64.raw',
    'PUT /bucket/prefix/k3s/portable/k3s.portable_1.33.1%20k3s1_x86-64.raw',
  ]);
  expect(asked[2]?.headers['x-amz-copy-source']).toBe('/bucket/prefix/k3s/portable/k3s.portable_1.33.1%2Bk3s1_x86-64.raw');
});
