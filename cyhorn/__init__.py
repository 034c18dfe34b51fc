"""cyhorn, a pre-fork WSGI server.

Importing the package does no work: it holds the version and nothing else.
"""

__version__ = "0.1.0"
version_info = (0, 1, 0)

#: What ``SERVER_SOFTWARE`` says, to the application and in the environment.
SERVER_SOFTWARE = f"cyhorn/{__version__}"
