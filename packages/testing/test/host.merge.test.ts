// A host of the merge tests has nothing of the machine that runs them but its kernel.
import { channelHead } from '@flatcar/core/engine';
import { expect, mergeTest, withHost } from '../src/index.ts';

mergeTest('programs of a host see no environment variable of this machine', async () => {
  process.env['SSL_CERT_FILE'] = '/a/store/of/this/machine';
  try {
    await withHost({ release: channelHead('stable').number }, async (host) => {
      const said = await host.run(['env'], { env: { GIVEN: 'by the test' } });
      expect(said).toContain('GIVEN=by the test');
      expect(said).not.toContain('SSL_CERT_FILE');
    });
  } finally {
    delete process.env['SSL_CERT_FILE'];
  }
});
