"""The machine that a study runs on: processes, devices, passes over data, files and their names."""

BAD_USE = 2  # exit code after one line: the same command cannot do it either when it is repeated
START_AGAIN = 75  # exit code EX_TEMPFAIL of sysexits.h: work is saved, the same command goes on
