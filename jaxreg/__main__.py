"""The commands: `python -m jaxreg study|plan|train|predict|probe|report|status|results --config=FILE --workdir=DIR`."""

import io
import logging
import os
import sys
from collections.abc import Sequence

from jaxreg.runtime import BAD_USE, INTERRUPTED, START_AGAIN, UNREAD

COMMANDS = {
    "study": "plan, train, predict, probe and report; goes on where an earlier run stopped",
    "plan": "print what would run: trials, programs, devices, steps, memory",
    "train": "train all trials",
    "predict": "save logits and features of every split",
    "probe": "measure calibration, robustness and geometry",
    "report": "write the report of this workdir, or of those named after the command",
    "status": "say how far each job of a study is",
    "export": "write the adversarial examples of studies as .npz with ids, for other toolboxes",
    "results": "print the rows of studies that fit COLUMN=VALUE ..., as CSV",
}
USAGE = "python -m jaxreg COMMAND --config=configs/FILE.py[:ARGUMENT] --workdir=DIR [--config.KEY=VALUE ...]"


def run() -> None:
    """Runs one command and leaves with its exit code.

    0 done, 2 bad use, 75 stopped from outside with all work saved, 130 stopped at once by Ctrl-C, 141 nobody reads what
    it prints. After 75 and 130 the same command goes on.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a terminal without UTF-8 cannot show ends no study
    code = main(sys.argv)
    if code == UNREAD:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes when it ends
    sys.exit(code)


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs its command; whoever stops it or stops listening gets no trace."""
    try:
        code = _main(argv)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("stopped at once: what was saved before is kept; the same command goes on from there.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # of `| head`
        return UNREAD


def _main(argv: Sequence[str]) -> int:
    words = [word for word in argv[1:] if not word.startswith("-")]
    if not words or words[0] not in COMMANDS or {"--help", "-h"} & set(argv):
        return _help(words)
    from jaxreg import commands  # imports JAX: not for `--help`

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs five traces of each error that it raises
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return commands.run(argv)
    except commands.EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_USE
    except commands.Preempted:
        print("stopped: all finished work is saved; the same command goes on from here.", file=sys.stderr)
        return START_AGAIN
    except Exception as error:
        if told := commands.explained(error):  # a full or read-only disk
            print(f"error: {told}", file=sys.stderr)
            return BAD_USE
        commands.abandon(error)  # one of several processes ends here: the others must not wait for it
        raise


def _help(words: list[str]) -> int:
    lines = [f"  {name:8} {what}" for name, what in COMMANDS.items()]
    unknown = [f"Unknown command {words[0]!r}."] if words and words[0] not in COMMANDS else []
    asked = not unknown and bool(words or {"--help", "-h"} & set(sys.argv))
    print("\n".join([*unknown, USAGE, "", *lines]), file=sys.stdout if asked else sys.stderr)
    return 0 if asked else BAD_USE


if __name__ == "__main__":
    run()
