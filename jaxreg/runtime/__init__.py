"""The machine that a study runs on: processes, devices, passes over data, files and their names."""

BAD_USE = 2  # exit code after one line: the same command cannot do it either when it is repeated
INTERRUPTED = 130  # 128 + SIGINT: Ctrl-C while nothing could be saved; the same command goes on
UNREAD = 141  # 128 + SIGPIPE: what reads the output has gone
START_AGAIN = 75  # exit code EX_TEMPFAIL of sysexits.h: work is saved, the same command goes on
