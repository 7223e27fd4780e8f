# In the initrd, under the node's own policy: a merge of each image alone, and whether it was taken.
cd /sysroot/etc/extensions || exit
mkdir ../aside
mv ./* ../aside/
for image in /sysroot/opt/extensions/policy/*.raw; do
  name=${image##*/}
  name=${name%.raw}
  ln -s "/opt/extensions/policy/$name.raw" .
  systemd-sysext refresh --root=/sysroot
  if [ -e "/sysroot/usr/bin/$name" ]; then echo "$name: taken"; else echo "$name: refused"; fi
  systemd-sysext unmerge --root=/sysroot
  rm "$name.raw"
done
mv ../aside/* .
rmdir ../aside
