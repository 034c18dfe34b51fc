from prometheus_client import multiprocess


def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
    server.log.info("The gauges of a worker are gone")
