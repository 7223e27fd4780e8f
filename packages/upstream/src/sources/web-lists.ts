import { checkShape, getJson, getText, httpGet, jsonObject, UserError, type UrlVersions } from '@flatcar/core/engine';
import * as v from 'valibot';
import { MOST_DOCUMENT, MOST_LISTING, type UpstreamContext } from '../context.ts';
import { readLinks } from './links.ts';
import { versionsInNames, versionsInTags, type Listed } from './tags.ts';

const MACHINES = ['x86_64', 'aarch64'];

/** Kubernetes' channels: `stable.txt` names the newest version, `stable-1.36.txt` the newest of a minor. */
export async function kubernetesVersions({ url: at, track: policy }: UrlVersions, context: UpstreamContext): Promise<Listed[]> {
  const channel = async (name: string): Promise<Listed> => {
    const url = `${at}/${name}.txt`;
    const { bytes, headers } = await httpGet(url, { ...context, max: MOST_DOCUMENT });
    const text = bytes.toString('utf8').trim();
    const version = /^v(\d+\.\d+\.\d+)$/.exec(text)?.[1];
    if (version === undefined)
      throw new UserError(`the channel does not contain a version: '${text.slice(0, 40)}'`, {
        where: url,
        next: 'check the URL in the definition',
      });
    const changed = headers['last-modified'];
    const date = typeof changed === 'string' && !Number.isNaN(Date.parse(changed)) ? new Date(changed).toISOString() : undefined;
    return { version, date };
  };
  const newest = await channel('stable');
  const [major = '', minor = ''] = newest.version.split('.');
  const count = Number(/^(\d+) minors$/.exec(policy)?.[1] ?? 1);
  const older = Array.from({ length: count - 1 }, (_, index) => Number(minor) - 1 - index).filter((one) => one >= 0);
  return [newest, ...(await Promise.all(older.map((one) => channel(`stable-${major}.${one}`))))];
}

/** Versions in the links of an index page, such as `docker-29.8.2.tgz`. With `{machine}` in the URL, those that the pages of both architectures have. */
export async function pageVersions({ url: at, tagPrefix = 'v' }: UrlVersions, context: UpstreamContext): Promise<Listed[]> {
  const urls = at.includes('{machine}') ? MACHINES.map((machine) => at.replaceAll('{machine}', machine)) : [at];
  const lists = await Promise.all(
    urls.map(async (url) => {
      const links = readLinks(await getText(url, { ...context, max: MOST_LISTING }));
      if (links.length === 0) throw new UserError('the page has no links', { where: url, next: 'check the URL in the definition' });
      const named = versionsInTags(links, tagPrefix);
      return named.map(({ version, date }) => ({ version: version.replace(/\.(?:tgz|zip|tar(?:\.\w+)?|tar\.zstd)$/, ''), date }));
    }),
  );
  return (lists[0] ?? []).filter(({ version }) => lists.every((list) => list.some((one) => one.version === version)));
}

/**
 * Versions in a JSON document; `#` and keys in the URL lead to them: to an object whose keys they are (`…/index.json#versions`, at HashiCorp), to a
 * list of texts or of objects with `version`, or to one text.
 */
export async function jsonVersions({ url: at, tagPrefix = '' }: UrlVersions, context: UpstreamContext): Promise<Listed[]> {
  const [url = '', path = ''] = at.split('#');
  const Value = v.union([v.string(), v.array(v.union([v.string(), v.object({ version: v.string() })])), v.record(v.string(), v.unknown())]);
  let value = (await getJson(url, { ...context, max: MOST_LISTING })).json;
  for (const key of path.split('.').filter((one) => one !== '')) value = v.is(jsonObject, value) ? value[key] : undefined;
  const found = checkShape(Value, value, at);
  if (typeof found === 'string') return versionsInNames([found], tagPrefix);
  const names = Array.isArray(found) ? found.map((one) => (typeof one === 'string' ? one : one.version)) : Object.keys(found);
  return versionsInNames(names, tagPrefix);
}
