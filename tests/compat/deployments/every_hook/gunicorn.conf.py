"""Every hook there is notes what it was given: its name, and what can be seen of its arguments."""

import os

bind = ["127.0.0.1:0", "unix:watched.sock"]
pidfile = "watched.pid"
proc_name = "watched"
max_requests = 1000
timeout = 20

HOOKS = "hooks.log"


def note(name, *seen):
    values = " ".join(f"{key}={value!r}" for one in seen for key, value in one.items())
    with open(HOOKS, "a") as file:
        file.write(f"[{os.getpid()}] [HOOK] {name} {values}\n")


def of_server(server):
    return {
        "server": type(server).__name__,
        "in_master": server.pid == os.getpid(),
        "num_workers": server.num_workers,
        "WORKERS": [(pid == worker.pid, type(worker).__name__) for pid, worker in server.WORKERS.items()],
        "LISTENERS": [str(listener) for listener in server.LISTENERS],
        "address": server.address,
        "names": (server.proc_name, server.master_name, server.cfg.proc_name),
        "worker_age": server.worker_age,
        "timeout": server.timeout,
        "pids": (server.reexec_pid != 0, server.master_pid != 0),
        "pidfile": server.pidfile and server.pidfile.fname,
        "systemd": server.systemd,
        "worker_class": (server.worker_class.__name__, server.cfg.worker_class_str),
        "cfg": (server.cfg is server.app.cfg, server.cfg.workers, bool(server.cfg.is_ssl), server.cfg.bind),
        "app": type(server.app).__name__,
        "log": server.log.loglevel,
    }


def of_worker(worker):
    return {
        "worker": (type(worker).__name__, worker.pid == os.getpid() or type(worker.pid).__name__),
        "age": worker.age,
        "nr": worker.nr,
        "alive": worker.alive,
        "booted": worker.pid == os.getpid() and worker.booted,
        "aborted": worker.aborted,
        "child": worker.ppid == os.getppid(),
        "timeout": worker.timeout,
        "max_requests": worker.max_requests,
        "sockets": len(worker.sockets),
        "wsgi": getattr(getattr(worker, "wsgi", None), "__name__", None),
        "app": worker.app.callable is not None,
        "workers": worker.cfg.workers,
        "log": worker.log.loglevel,
    }


def of_request(req):
    return {
        "request": (req.method, req.uri, req.path, req.query, req.fragment, req.version),
        "headers": req.headers,
        "peer": req.peer_addr[0] if req.peer_addr else req.peer_addr,
        "scheme": req.scheme,
        "number": req.req_number,
        "proxy": req.proxy_protocol_info,
        "close": req.should_close(),
    }


def of_response(resp):
    return {
        "status": (resp.status, resp.status_code),
        "headers": resp.headers,
        "sent": (resp.sent, resp.response_length, resp.headers_sent),
        "chunked": resp.chunked,
    }


def on_starting(server):
    note("on_starting", of_server(server))


def on_reload(server):
    note("on_reload", of_server(server))


def when_ready(server):
    note("when_ready", of_server(server))


def pre_fork(server, worker):
    note("pre_fork", of_server(server), of_worker(worker))


def post_fork(server, worker):
    note("post_fork", of_server(server), of_worker(worker))


def post_worker_init(worker):
    note("post_worker_init", of_worker(worker))
    print("The application is loaded", flush=True)  # here, as a worker that gets a signal before is told of as not booted


def worker_int(worker):
    note("worker_int", of_worker(worker))


def worker_abort(worker):
    note("worker_abort", of_worker(worker))


def pre_exec(server):
    note("pre_exec", of_server(server))


def pre_request(worker, req):
    note("pre_request", of_worker(worker), of_request(req))


def post_request(worker, req, environ, resp):
    told = {"environ": (environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["SERVER_PORT"] != "")}
    note("post_request", of_worker(worker), of_request(req), told, of_response(resp))


def child_exit(server, worker):
    note("child_exit", of_server(server), of_worker(worker))


def worker_exit(server, worker):
    note("worker_exit", of_server(server), of_worker(worker))


def nworkers_changed(server, new_value, old_value):
    note("nworkers_changed", {"new": new_value, "old": old_value, "now": server.num_workers})


def on_exit(server):
    note("on_exit", of_server(server))
