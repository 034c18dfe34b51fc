"""Redis, RabbitMQ and ZooKeeper from Debian's packages, each in a folder of its own, on loopback, at free ports.

What a package's own start would do (its user, its directories, its port, an epmd for all) is left
out, so that nothing of the machine is used and nothing is left behind. They forget what they were told when
they are stopped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.integration.harness import until
from tests.neighbours.harness import free_ports, listens

#: Seconds for a service to come up: a machine that runs other things needs some for a JVM or Erlang.
BOOT = 60.0


class Service:
    """A server process in `folder` at `port`, with all that it starts."""

    def __init__(
        self, command: Sequence[str], folder: Path, port: int, env: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.port = port
        self._command = command
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.folder / "said.log").read_text(errors="replace")

    def start(self) -> bool:
        """Start it, and wait until it listens. False when it has ended instead."""
        with (self.folder / "said.log").open("ab") as sink:
            process = self._process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

        def settled() -> bool:
            return process.poll() is not None or listens(self.port)

        until(settled, f"{self._command[0]} at {self.port}", BOOT)
        return process.poll() is None

    def stop(self) -> None:
        """End it at once, with all of its session."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop and start it, at the same port."""
        self.stop()
        assert self.start(), self.log


@contextmanager
def running(service: Service) -> Iterator[Service]:
    """`service`, for the block."""
    try:
        assert service.start(), service.log
        yield service
    finally:
        service.stop()


@contextmanager
def redis(folder: Path) -> Iterator[Service]:
    """A Redis that writes nothing to disk."""
    (port,) = free_ports(1)
    options = f"--port {port} --bind 127.0.0.1 --save --appendonly no --daemonize no --maxclients 2000"
    with running(Service(["redis-server", *options.split()], folder, port)) as service:
        yield service


@contextmanager
def rabbitmq(folder: Path) -> Iterator[Service]:
    """A RabbitMQ node with an epmd of its own. Its user is guest, its password guest."""
    port, distribution, mapper = free_ports(3)
    config = folder / "rabbitmq.conf"
    config.write_text(
        textwrap.dedent(
            f"""\
            listeners.tcp.1 = 127.0.0.1:{port}
            disk_free_limit.absolute = 1MB
            """
        )
    )
    (folder / "plugins").write_text("[].\n")
    epmd = {"ERL_EPMD_PORT": str(mapper), "ERL_EPMD_ADDRESS": "127.0.0.1"}
    env = {
        **epmd,
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"apps{port}@localhost",
        "RABBITMQ_CONFIG_FILE": str(config),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
    }
    names = folder / "epmd"
    names.mkdir()
    with (
        running(Service(["epmd", "-port", str(mapper), "-address", "127.0.0.1"], names, mapper)),
        running(Service(["/usr/lib/rabbitmq/bin/rabbitmq-server"], folder, port, env)) as service,
    ):
        yield service


#: The jars that a ZooKeeper of its own needs.
JARS = (
    "zookeeper slf4j-api slf4j-simple netty-buffer netty-codec netty-common netty-handler netty-resolver"
    " netty-transport netty-transport-native-unix-common metrics-core snappy-java commons-io commons-cli"
    " jackson-databind jackson-core jackson-annotations log4j-1.2 jetty9-server"
).split()


@contextmanager
def zookeeper(folder: Path) -> Iterator[Service]:
    """A ZooKeeper with ticks of 200 ms: sessions may be as short as 400 ms."""
    (port,) = free_ports(1)
    (folder / "data").mkdir()
    config = folder / "zoo.cfg"
    config.write_text(
        textwrap.dedent(
            f"""\
            tickTime=200
            dataDir={folder}/data
            clientPort={port}
            clientPortAddress=127.0.0.1
            admin.enableServer=false
            maxSessionTimeout=60000
            maxClientCnxns=0
            4lw.commands.whitelist=*
            """
        )
    )
    classes = ":".join(f"/usr/share/java/{name}.jar" for name in JARS)
    flags = "-Xmx64m -XX:TieredStopAtLevel=1 -Djava.net.preferIPv4Stack=true -Dzookeeper.jmx.log4j.disable=true".split()
    main = "org.apache.zookeeper.server.ZooKeeperServerMain"
    command = ["java", *flags, "-cp", classes, main, str(config)]
    with running(Service(command, folder, port, {"HOME": str(folder)})) as service:
        yield service
