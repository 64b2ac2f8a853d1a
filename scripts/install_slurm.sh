#!/bin/sh
# Slurm and munge as Debian packages, for `make slurm`; nothing is done where they are already.
set -eu
missing=""
for program in munged slurmctld slurmd sbatch; do
    command -v "$program" > /dev/null || missing="$missing $program"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "make slurm: there is no$missing here, and only root on a Debian system can install them" >&2
    exit 1
fi
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends slurmctld slurmd slurm-client munge
