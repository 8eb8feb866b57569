"""The one exception for what a user can mend, and how a script shows it."""
from __future__ import annotations

import sys
from typing import Callable, Optional

DONE, DIFFERS, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130  # exit codes of every script


class UserError(ValueError):
    """Input or settings that the user can mend. One line: what was expected, what came, what to do."""


def exit_code(main: Callable[[], Optional[int]]) -> int:
    """Run `main` and turn what the user can mend into one line on stderr, without a traceback."""
    try:
        return main() or DONE
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except ModuleNotFoundError as error:
        print(f"error: this needs the Python package {error.name}, which is not installed. bash scripts/setup.sh "
              "installs what every script needs", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        if error.filename is None:  # not about a file: a defect, and its traceback is wanted
            raise
        print(f"error: {error.filename}: {error.strerror}. Mend that and run the same command again: "
              "what is whole is kept.", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted. Run the same command again to continue.", file=sys.stderr)
        return INTERRUPTED
