#!/bin/bash
# dracut module of the stand-in's initrd: what arrives on the seed disk is put in place as Ignition would,
# and, where the era says so, extensions are merged before the switch to the real root.
check() { return 0; }
depends() { echo systemd; }
installkernel() { instmods erofs squashfs loop dm-verity overlay ext4 virtio_blk virtio_pci virtio_console; }
install() {
  inst_multiple tar gzip cp mkdir touch sh systemd-sysext systemd-confext
  inst_multiple -o /usr/lib/*/cryptsetup/*.so veritysetup /usr/lib/systemd/systemd-veritysetup
  inst_libdir_file 'libcryptsetup.so*' 'libblkid.so*' 'libcrypto.so*' 'ossl-modules/legacy.so'
  inst_simple "$moddir/seed.service" /usr/lib/systemd/system/seed.service
  $SYSTEMCTL -q --root "$initdir" add-wants initrd.target seed.service
  if [ -e "$moddir/merge.service" ]; then
    inst_simple "$moddir/merge.service" /usr/lib/systemd/system/merge.service
    inst_simple "$moddir/merge" /usr/bin/merge-extensions
    $SYSTEMCTL -q --root "$initdir" add-wants initrd.target merge.service
  fi
}
