# A static crun; systemd is asked for its cgroups over the bus only by builds that link libsystemd, which is never static.
set -eu
./configure --host="$HOST" --disable-systemd --enable-shared=no --disable-dl CFLAGS='-O2 -g0' LDFLAGS='-static -all-static -Wl,--build-id=none'
make -j"$JOBS" crun
install -D crun "$OUT/crun"
