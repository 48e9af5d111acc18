#!/bin/sh
# Lay a folder of memory ($1) over `/` and hold the whole as $1/root until stdin ends.
set -eu
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"

# A new machine, which starts nothing of what this one starts.
: > "$1/root/etc/machine-id"
rm -rf "$1"/root/etc/systemd/system/*.wants "$1/root/var/lib/dbus/machine-id"

# What systemd-nspawn notes of its machines is nothing to this one.
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn

echo held
exec cat
