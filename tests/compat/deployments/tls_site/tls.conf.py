"""TLS 1.3 only, whatever the defaults are."""

import ssl

bind = "127.0.0.1:0"
workers = 1
accesslog = "-"
access_log_format = '"%(r)s" %(s)s %({wsgi.url_scheme}e)s'


def ssl_context(config, default_ssl_context_factory):
    context = default_ssl_context_factory()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    return context
