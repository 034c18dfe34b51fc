"""cyhorn and its peers, side by side: ``python -m perf.compare`` (or ``make compare``).

``servers``   what is compared, how each is installed and started
``works``     what they are asked to do, and the targets that cyhorn is held to
``process``   a running server: its process tree, CPU time and memory
``check``     a response read and judged byte by byte before anything is timed
``load``      wrk, or for big files a reader of our own, with errors counted
``idle``      memory of idle keep-alive connections, and what they do to the others
``boot``      time from exec to first answer, memory of a worker
``report``    the JSON and the tables

The figure that counts is server CPU per request: user and system time of the server's
whole process tree over the run, divided by the requests it answered. Requests per second
depend on the client and the machine's mood; they are printed as a side remark.
"""
