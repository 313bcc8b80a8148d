"""The command line: one file per command, each with ``add_parser`` and ``run``.

``run(args)`` returns the dictionary that ``--json`` prints; ``render(result)`` turns it into text for a
person; ``exit_code(result)``, where a command has one, turns it into the exit code.
"""
