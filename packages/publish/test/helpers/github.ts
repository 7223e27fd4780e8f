import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { sha256Of } from '../../src/tree/digest.ts';

interface Asset {
  name: string;
  digest: string;
  browser_download_url: string;
  bytes: Buffer;
}
interface Made {
  id: number;
  tag_name: string;
  draft: boolean;
  upload_url: string;
  assets: Asset[];
}

/** What stands for GitHub. */
export interface TestGithub {
  url: string;
  /** Newest first; may be emptied. */
  releases: Made[];
  /** After so many uploads the next one fails, as a dead connection would. */
  failAfter: number;
  /** Where answers say that assets are sent to, instead of itself. */
  uploadsTo?: string;
  close(): void;
}

const bodyOf = async (request: IncomingMessage): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
};

/** The host cannot be reached from tests: what is used of its API, with immutable releases switched on. Its token is `a token`. */
export async function startGithub(): Promise<TestGithub> {
  const github: TestGithub = { url: '', releases: [], failAfter: Number.POSITIVE_INFINITY, close: () => undefined };
  const server = createServer((request, response) => {
    void (async () => {
      const body = await bodyOf(request);
      const answer = (status: number, value?: unknown): void => {
        response.writeHead(status, { 'content-type': 'application/json' }).end(value === undefined ? undefined : JSON.stringify(value));
      };
      const shown = ({ assets, ...one }: Made): object => ({ ...one, assets: assets.map((asset) => ({ ...asset, bytes: undefined })) });
      const { pathname, searchParams } = new URL(request.url ?? '', github.url);
      const download = /^\/download\/(.+)$/.exec(pathname)?.[1];
      if (download !== undefined) {
        const asset = github.releases
          .filter(({ draft }) => !draft)
          .flatMap(({ assets }) => assets)
          .find(({ name }) => name === download);
        if (asset === undefined) return answer(404, { message: 'Not Found' });
        return void response.writeHead(200, { 'content-length': asset.bytes.length }).end(asset.bytes);
      }
      if (request.headers.authorization !== 'Bearer a token') return answer(401, { message: 'Bad credentials' });
      const [, id] = /^\/repos\/o\/r\/releases(?:\/(\d+))?$/.exec(pathname) ?? [];
      const found = github.releases.find((one) => String(one.id) === (id ?? /^\/upload\/(\d+)$/.exec(pathname)?.[1]));
      if (pathname.startsWith('/upload/') && found !== undefined) {
        if (!found.draft) return answer(422, { message: 'Cannot upload assets to an immutable release.' });
        github.failAfter -= 1;
        if (github.failAfter < 0) return answer(502, { message: 'Server Error' });
        const name = searchParams.get('name') ?? '';
        const asset = { name, digest: `sha256:${sha256Of(body)}`, browser_download_url: `${github.url}/download/${name}`, bytes: body };
        found.assets.push(asset);
        return answer(201, { name, digest: asset.digest });
      }
      if (request.method === 'GET' && id === undefined) return answer(200, github.releases.map(shown));
      if (request.method === 'POST') {
        const { tag_name, draft } = JSON.parse(body.toString()) as { tag_name: string; draft: boolean };
        const made = { id: Math.floor(Math.random() * 1e9), tag_name, draft, upload_url: '', assets: [] };
        github.releases.unshift({ ...made, upload_url: `${github.uploadsTo ?? github.url}/upload/${made.id}{?name,label}` });
        return answer(201, shown(github.releases[0] as Made));
      }
      if (found === undefined) return answer(404, { message: 'Not Found' });
      if (request.method === 'PATCH') {
        found.draft = false;
        return answer(200, shown(found));
      }
      if (!found.draft) return answer(422, { message: 'an immutable release' });
      github.releases = github.releases.filter((one) => one !== found);
      answer(204);
    })();
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  github.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  github.close = () => {
    server.closeAllConnections();
    server.close();
  };
  return github;
}
