"""TLS without a proxy: cyhorn -c tls.conf.py app:app"""

import ssl

bind = "127.0.0.1:8443"
certfile = "server.crt"
keyfile = "server.key"


def ssl_context(config, default_ssl_context_factory):
    context = default_ssl_context_factory()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
