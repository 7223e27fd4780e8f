#!/bin/bash
# dracut module of the stand-ins: what the units of guest/initrd/ call, and the kernel modules for disks and extension images.
check() { return 0; }
depends() { echo systemd; }
installkernel() { instmods erofs squashfs loop dm-verity overlay ext4 virtio_blk virtio_pci virtio_console; }
install() {
  inst_multiple tar cp mkdir touch sh systemd-sysext systemd-confext
  inst_libdir_file 'libcryptsetup.so*' 'libblkid.so*' 'libcrypto.so*' 'libdevmapper.so*'
}
