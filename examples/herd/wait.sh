#!/bin/sh
# Waits until it is asked to stop.
trap 'exit 0' TERM INT
while true; do
    sleep 60 &
    wait $!
done
