#!/bin/sh
# A command of Slurm for clients of a test: it counts its calls.
printf '%s\n' "NAME $*" >>'DIR/calls'
SLURM_CONF='DIR/slurm.conf'
export SLURM_CONF
program='PROGRAM'
if [ -e 'DIR/fault/NAME' ]; then
	. 'DIR/fault/NAME'
fi
exec "$program" "$@"
