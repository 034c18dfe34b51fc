"""Measuring cyhorn: README.md in this directory says what each command prints.

Nothing here is a part of the package, and nothing here is imported by it.
"""
