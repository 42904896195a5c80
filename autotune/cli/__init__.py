"""The command line `autotune`: a module for each group of commands, `main` with the app and the others.

`terminal` is what they share: errors on one line, the log, the console, a progress bar.
"""

from autotune.cli.main import app

__all__ = ["app"]
