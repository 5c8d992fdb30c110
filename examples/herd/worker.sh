#!/bin/sh
# A worker of a herd in its simplest form: a line in, a line out. Ends when its input ends.
while read -r task; do
    printf '%s' "$task" | sha256sum | cut -d ' ' -f 1
done
