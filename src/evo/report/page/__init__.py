"""The parts of report.html: markup, style, charts and sections; `scripts/` is what makes them answer.

Each section is a function of a `Report`. Nothing here reads a file, imports torch, asks a
network for anything, or writes text of the run unescaped: children of `tag` are escaped unless they are `Html` already.
"""
