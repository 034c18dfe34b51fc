#!/bin/sh
# Debian's packages for `make apps`, where their programs are missing. Installs as root; else it
# says what to install. Nothing is started: the tests start servers of their own.
set -eu

missing=
need() { # a command or a file, and the package that has it
    command -v "$1" >/dev/null || [ -e "$1" ] || missing="$missing $2"
}
need redis-server redis-server
need /usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server
# The classes without the package zookeeper, which wants a Java with windows.
need /usr/share/java/zookeeper.jar libzookeeper-java
need java default-jre-headless
need nginx nginx-light
need haproxy haproxy
need chromium chromium
need chromedriver chromium-driver
need openssl openssl
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "make apps needs these packages of Debian:$missing" >&2
    exit 1
fi

# Where there is no init to start services, a package that tries to must not fail.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
# Java registers manual pages, for which slim images have no directory.
mkdir -p /usr/share/man/man1
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086  # a list
apt-get install -qq --no-install-recommends -y $missing
