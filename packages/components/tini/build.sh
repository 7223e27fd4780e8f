# As upstream's CMakeLists.txt compiles tini-static.
set -eu
sed -e "s/@tini_VERSION_MAJOR@.@tini_VERSION_MINOR@.@tini_VERSION_PATCH@/$VERSION/; s/@tini_VERSION_GIT@//" src/tiniConfig.h.in >src/tiniConfig.h
"$CC" -O2 -std=gnu99 -DTINI_VERSION="\"$VERSION\"" -DTINI_GIT='""' -static -s -Wl,--build-id=none -o "$OUT/tini" src/tini.c
