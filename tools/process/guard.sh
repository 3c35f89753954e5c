#!/bin/sh
# Ends what a process has started when that process goes away, however it goes (kill -9 included).
# Reads from standard input, which only the guarded process holds open:
#   add PID SIGNAL | del PID | rm DIRECTORY
# At the end of the input every process still listed gets its signal, then SIGKILL after ten seconds (or the tenths of
# a second given as the first argument), and the listed directories are removed. A process id counts only together with its start time, so that a reused id is
# left alone.
set -u
patience=${1:-100}
entries=''
directories=''

# Start time; nothing for a process that has ended and waits to be buried.
started() { sed -e 's/.*) //' -e '/^[ZX]/d' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
alive() { kill -0 "$1" 2>/dev/null && [ "$(started "$1")" = "$2" ]; }

while read -r verb first second; do
  case "$verb" in
    add) entries="$entries
$first $second $(started "$first")" ;;
    del) entries=$(printf '%s\n' "$entries" | grep -v "^$first ") ;;
    rm) directories="$directories
$first" ;;
  esac
done

# Last started, first ended: services before the servers that they use.
reversed=''
while read -r pid signal start; do
  [ -n "$pid" ] && reversed="$pid $signal $start
$reversed"
done <<LIST
$entries
LIST

while read -r pid signal start; do
  [ -n "$pid" ] && alive "$pid" "$start" && kill -s "$signal" "$pid" 2>/dev/null
done <<LIST
$reversed
LIST

rounds=0
while [ "$rounds" -lt "$patience" ]; do
  left=''
  while read -r pid signal start; do
    [ -n "$pid" ] && alive "$pid" "$start" && left=yes
  done <<LIST
$reversed
LIST
  [ -z "$left" ] && break
  sleep 0.1
  rounds=$((rounds + 1))
done

while read -r pid signal start; do
  [ -n "$pid" ] && alive "$pid" "$start" && kill -s KILL "$pid" 2>/dev/null
done <<LIST
$reversed
LIST

while read -r directory; do
  [ -n "$directory" ] && rm -rf -- "$directory"
done <<LIST
$directories
LIST
exit 0
