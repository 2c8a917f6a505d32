"""Floor 7: the command line. One thin file a command: options, one call, one printed view.

May import: every floor below, inside the commands' bodies where it is heavy. Never here: logic that another program
could want.

A command is a function named `command` (or a `typer.Typer` of that name, for subcommands) in `cli/NAME.py` and one row
in `cli/commands.py`. It returns its exit code: 0 fine, 1 the input has errors or differs. It lets every exception pass:
`cli/guard.py` makes diagnostics of them, which `cli/app.py` prints.
"""
