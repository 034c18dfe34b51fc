def worker_abort(worker):
    worker.log.error("A report took too long in worker %s", worker.age)
