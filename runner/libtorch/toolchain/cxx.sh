#!/bin/sh
# The C++ compiler as loralab calls it. gotch's own cgo flags (-O3 -g on one
# generated file of 18,000 lines) come after ours and cost minutes for nothing:
# that file only forwards calls. Everything else keeps the flags it asked for.
for arg do
	shift
	case $arg in
	-O3) arg=-O1 ;;
	-g) arg=-g0 ;;
	esac
	set -- "$@" "$arg"
done
exec "${LORALAB_CXX:-g++}" "$@"
