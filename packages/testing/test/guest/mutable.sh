# One line for each mode: what a merge with it shows and takes, and what is left of it.
# $1: sysext or confext, $2: the hierarchy, $3: how its upper layer begins: a folder with one file in it, a link to the hierarchy, or absent
kind=$1 hierarchy=$2 begin=$3
upper=/var/lib/extensions.mutable$hierarchy
yes_no() { "$@" >/dev/null 2>&1 && echo yes || echo no; }
for mode in no auto yes import ephemeral ephemeral-import; do
  rm -rf /var/lib/extensions.mutable
  mkdir -p /var/lib/extensions.mutable
  case $begin in
    folder) mkdir -p "$upper" && echo kept >"$upper/kept" ;;
    link) ln -s "$hierarchy" "$upper" ;;
  esac
  "systemd-$kind" merge --mutable=$mode --no-reload >/dev/null 2>&1
  merged=$(findmnt -rn -t overlay | grep -q "^$hierarchy " && echo yes || echo no)
  shown=$(yes_no test -e "$hierarchy/kept")
  written=$(yes_no sh -c "echo $mode >$hierarchy/written")
  "systemd-$kind" unmerge --no-reload >/dev/null 2>&1
  left=$(yes_no test -e "$upper/written")
  clean=$(findmnt -rn -t overlay | grep -q "^$hierarchy " && echo no || echo yes)
  rm -f "$upper/written"
  echo "$mode merged=$merged kept=$shown written=$written persists=$left clean=$clean"
done
rm -rf /var/lib/extensions.mutable
