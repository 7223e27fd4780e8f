import { debian, defineExtension, packaged, type VersionSource } from '@flatcar/core';

const sssd: VersionSource = { kind: 'debian', package: 'trixie/main/sssd', track: 'newest' };
const programs = ['sssd', 'sssctl', 'sss_cache', 'sss_override', 'sss_seed', 'sss_ssh_authorizedkeys', 'sss_ssh_knownhosts', 'adcli'];

const origin = debian(
  [
    ...['ad', 'ad-common', 'common', 'ipa', 'krb5', 'krb5-common', 'ldap', 'proxy', 'tools'].map((name) => `sssd-${name}`),
    'libnss-sss',
    'libpam-sss',
    'libldb2',
    'libsasl2-modules',
    'libsasl2-modules-gssapi-mit',
    'adcli',
  ],
  {
    programs,
    // Back ends and plugins, by the folders that sssd, ldb, Kerberos and SASL look in.
    relocate: {
      plugins: [
        'liblzma.so.5', // compressed journals
        'libnss_files.so.2', // for the proxy back end: users from files
        'usr/lib/{triplet}/sssd/**',
        'usr/lib/{triplet}/samba/ldb/*.so',
        'usr/lib/{triplet}/krb5/plugins/**',
        'usr/lib/{triplet}/sasl2/lib{gssapiv2,gs2,plain,scram}.so*',
        '!usr/lib/{triplet}/sssd/conf/**',
        '!usr/lib/{triplet}/samba/ldb/sample.so',
        '!usr/lib/{triplet}/samba/ldb/skel.so',
      ],
      data: [
        'usr/libexec/sssd/*',
        '!usr/libexec/sssd/sss_analyze',
        'usr/share/sssd/sssd.api.conf',
        'usr/share/sssd/sssd.api.d/*',
        'usr/share/sssd/cfg_rules.ini',
      ],
      // The host's own programs load these two: they are in the folders where its C library and PAM look.
      hostModules: ['usr/lib/{triplet}/libnss_sss.so.2', 'usr/lib/{triplet}/security/pam_sss.so'],
    },
  },
);

export default defineExtension({
  name: 'sssd',
  summary: 'sssd with its LDAP, Kerberos, AD and IPA back ends, and the NSS and PAM modules for one Flatcar release',
  versions: sssd,
  components: ({ version }) => [packaged('sssd', version, origin)],
  start: ['sssd.service'],
  essential: true,
  releaseBound: true,
  replaces: [
    ...programs.map((name) => `usr/bin/${name}`),
    'usr/lib/systemd/system/sssd.service',
    'usr/lib64/libnss_sss.so.2',
    'usr/lib64/security/pam_sss.so',
  ],
  waive: {
    'usr-lib64': 'it is a folder on Flatcar, and the one where its C library and PAM look for modules',
  },
});
