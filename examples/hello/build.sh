#!/bin/sh
# Turns lines of `season|sentence` into a page. Fails on a line that has no sentence.
set -eu
awk -F'|' '
    BEGIN { print "<!doctype html><title>Hello from the pasture</title><ul>" }
    NF != 2 { print "line " NR " is not season|sentence" > "/dev/stderr"; bad = 1; exit 1 }
    { print "<li><b>" $1 "</b>: " $2 "</li>" }
    END { if (bad) exit 1; print "</ul><p>" NR " seasons</p>" }
' "$1" > "$2"
echo "built $2: $(wc -l < "$2") lines, $(wc -c < "$2") bytes"
