"""What cyhorn promises when something fails, as figures: ``python -m reliability`` (or ``make reliability``).

``rules``       the promises; tests show each of them (``@pytest.mark.rule``)
``document``    docs/reliability.md: the rules with their tests, and the last table of figures
``contestants`` who is measured, and how each is installed and started
``bench``       a running server with its traffic, and the figures that a scenario notes
``scenarios``   what is done to them
``soak``        half an hour of everything at once

The harness is the tests' own (``tests/integration``): what a test shows to be true is measured here, at a
size and for a time that a test has not got. Nothing of the package imports this one.
"""
