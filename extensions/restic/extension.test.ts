import { expect, testExtension } from '@flatcar/testing';

testExtension(import.meta.dirname, {
  commands: [{ run: ['restic', 'version'], says: 'version' }],
  machine: {
    async also(machine) {
      const restic = 'restic --quiet --no-cache --repo /var/restic';
      await machine.run(
        `export RESTIC_PASSWORD=test; ${restic} init && ${restic} backup /etc/systemd && ${restic} restore latest --target /var/restored`,
      );
      expect(await machine.run('cat /var/restored/etc/systemd/network/10-all.network')).toContain('DHCP=yes');
    },
  },
});
