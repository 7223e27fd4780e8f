# One line for each mode: what a merge with it shows and takes, and what is left of it. Starting programs is slow where a processor is emulated, so few are.
# $1: sysext or confext, $2: the hierarchy, $3: how its upper layer begins: a folder with one file in it, a link to the hierarchy, or absent
kind=$1 hierarchy=$2 begin=$3
upper=/var/lib/extensions.mutable$hierarchy
is_merged() {
  while read -r _ where type _; do
    [ "$type $where" != "overlay $hierarchy" ] || return 0
  done </proc/mounts
  return 1
}
try_write() { echo "$mode" >"$hierarchy/written"; }
yes_no() { if "$@" 2>/dev/null; then echo yes; else echo no; fi; }
for mode in no auto yes import ephemeral ephemeral-import; do
  rm -rf /var/lib/extensions.mutable
  case $begin in
    folder) mkdir -p "$upper" && echo kept >"$upper/kept" ;;
    *) mkdir -p /var/lib/extensions.mutable ;;
  esac
  [ "$begin" != link ] || ln -s "$hierarchy" "$upper"
  "systemd-$kind" merge --mutable=$mode --no-reload >/dev/null 2>&1
  merged=$(yes_no is_merged)
  shown=$(yes_no test -e "$hierarchy/kept")
  written=$(yes_no try_write)
  "systemd-$kind" unmerge --no-reload >/dev/null 2>&1
  left=$(yes_no test -e "$upper/written")
  clean=$(yes_no eval '! is_merged')
  [ "$left" = no ] || rm "$upper/written"
  echo "$mode merged=$merged kept=$shown written=$written persists=$left clean=$clean"
done
rm -rf /var/lib/extensions.mutable
