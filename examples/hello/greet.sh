#!/bin/sh
# Says hello once a second, checks that the page is the one that was built, and hands it back.
set -eu
# As the first process of a container, a shell ignores signals that it does not trap.
trap 'echo "asked to stop"; exit 143' TERM INT
echo "hello from $(uname -s) on $(uname -m), $(grep -c '^processor' /proc/cpuinfo) processors in sight"
sha256sum -c page.sha256
while IFS='|' read -r season sentence; do
    echo "$season: $sentence"
    sleep 1 &
    wait $!
done < seasons.txt
if [ -n "${FARM_OUTPUT_DIR:-}" ]; then
    cp page.html page.sha256 "$FARM_OUTPUT_DIR/"
    echo "left page.html in $FARM_OUTPUT_DIR"
fi
echo "goodbye"
