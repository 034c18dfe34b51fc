"""Rows: limits, time limits, bodies, header policy, trusted peers, TLS."""

from __future__ import annotations

from cyhorn.config import validators as v
from cyhorn.config.row import Row

SECURITY, CLIENTS, MECHANICS, TLS = "Security", "Connections and Bodies", "Server Mechanics", "SSL"
WORKERS = "Worker Processes"

ROWS = (
    # -- limits of the head
    Row(
        name="limit_request_line",
        section=SECURITY,
        kind=v.POS_INT,
        flags=("--limit-request-line",),
        metavar="BYTES",
        default=8190,
        meaning=(
            "The longest request line. The value given is the value used; 0 is no limit but that of the whole"
            " head, 1 MiB."
        ),
        differs=(
            "the default is 8190, not 4094; a greater value is used as given, and 0 means the limit of"
            " the whole head"
        ),
    ),
    Row(
        name="limit_request_fields",
        section=SECURITY,
        kind=v.POS_INT,
        flags=("--limit-request-fields",),
        metavar="INT",
        default=100,
        meaning="The most header fields in a request. 0 is no limit but that of the whole head.",
        differs="0 means the limit of the whole head; in Gunicorn 32768",
    ),
    Row(
        name="limit_request_field_size",
        section=SECURITY,
        kind=v.POS_INT,
        # The underscore is Gunicorn's spelling; the other is what everybody types first.
        flags=("--limit-request-field_size", "--limit-request-field-size"),
        metavar="BYTES",
        default=8190,
        meaning="The longest header field. 0 is no limit but that of the whole head, 1 MiB.",
        differs="0 means the limit of the whole head; in Gunicorn 8190",
    ),
    Row(
        name="limit_request_body",
        section=SECURITY,
        kind=v.SIZE,
        scope="N",
        flags=("--limit-request-body",),
        metavar="SIZE",
        default=0,
        meaning=(
            "The longest request body. A longer one is answered 413, before it is read where its length is"
            " declared. 0 is no limit."
        ),
    ),
    # -- time limits and bodies
    Row(
        name="keepalive",
        section=WORKERS,
        kind=v.POS_INT,
        scope="P",
        flags=("--keep-alive",),
        metavar="SECONDS",
        default=75,
        meaning=(
            "How many seconds an idle connection is kept open for the next request. 0 closes it after each"
            " response."
        ),
        differs="the default is 75, not 2, and it counts for sync workers too",
    ),
    Row(
        name="client_header_timeout",
        section=CLIENTS,
        kind=v.SECONDS,
        scope="N",
        flags=("--client-header-timeout",),
        metavar="SECONDS",
        default=10,
        meaning="How many seconds a client has for the whole head of a request. 0 is no limit.",
    ),
    Row(
        name="client_body_timeout",
        section=CLIENTS,
        kind=v.SECONDS,
        scope="N",
        flags=("--client-body-timeout",),
        metavar="SECONDS",
        default=30,
        meaning="How many seconds may pass between two pieces of a request body. 0 is no limit.",
    ),
    Row(
        name="send_timeout",
        section=CLIENTS,
        kind=v.SECONDS,
        scope="N",
        flags=("--send-timeout",),
        metavar="SECONDS",
        default=30,
        meaning="How many seconds a client may take no byte of its response. 0 is no limit.",
    ),
    Row(
        name="buffer_request_body",
        section=CLIENTS,
        kind=v.BOOL,
        scope="N",
        flags=("--buffer-request-body",),
        no_flags=("--no-buffer-request-body",),
        action="store_true",
        default=True,
        meaning=(
            "Call the application when the whole request body is there. Turned off, it is called at the end"
            " of the head and reads from the client, which holds the worker meanwhile."
        ),
    ),
    Row(
        name="body_buffer_size",
        section=CLIENTS,
        kind=v.SIZE,
        scope="N",
        flags=("--body-buffer-size",),
        metavar="SIZE",
        default=1 << 20,
        default_text="1M",
        meaning="How much of a request body is held in memory. A longer one goes to a temporary file.",
    ),
    Row(
        name="response_buffer_size",
        section=CLIENTS,
        kind=v.SIZE,
        scope="N",
        flags=("--response-buffer-size",),
        metavar="SIZE",
        default=1 << 20,
        default_text="1M",
        meaning=(
            "How much of a response is held in memory for a client that reads slowly. More goes to a"
            " temporary file."
        ),
    ),
    Row(
        name="response_spool_size",
        section=CLIENTS,
        kind=v.SIZE,
        scope="N",
        flags=("--response-spool-size",),
        metavar="SIZE",
        default=1 << 30,
        default_text="1G",
        meaning="How large that temporary file may grow. Beyond it the worker waits for the client.",
    ),
    Row(
        name="tmp_upload_dir",
        section=CLIENTS,
        kind=v.PATH,
        metavar="DIR",
        meaning=(
            "The directory for temporary files of request and response bodies. Not set means the system's."
        ),
        differs="it is used: Gunicorn declares it and does nothing",
    ),
    Row(
        name="server_header",
        section=CLIENTS,
        kind=v.FIELD_VALUE,
        scope="N",
        flags=("--server-header",),
        metavar="TEXT",
        default="cyhorn",
        meaning="The value of the Server field of responses. An empty text leaves the field out.",
    ),
    # -- grammar and header policy
    Row(
        name="permit_obsolete_folding",
        section=MECHANICS,
        kind=v.BOOL,
        flags=("--permit-obsolete-folding",),
        action="store_true",
        default=False,
        meaning=(
            "Take header fields that are folded over several lines. It weakens a defence against request"
            " smuggling."
        ),
    ),
    Row(
        name="strip_header_spaces",
        section=MECHANICS,
        kind=v.BOOL,
        flags=("--strip-header-spaces",),
        action="store_true",
        default=False,
        meaning=(
            "Take header fields with spaces before the colon. It weakens a defence against request smuggling."
        ),
    ),
    Row(
        name="permit_unconventional_http_method",
        section=MECHANICS,
        kind=v.BOOL,
        flags=("--permit-unconventional-http-method",),
        action="store_true",
        default=False,
        meaning="Take methods that are not 3 to 20 characters long, or have lower-case letters or #.",
    ),
    Row(
        name="permit_unconventional_http_version",
        section=MECHANICS,
        kind=v.BOOL,
        flags=("--permit-unconventional-http-version",),
        action="store_true",
        default=False,
        meaning="Take HTTP versions other than 1.0 and 1.1.",
    ),
    Row(
        name="casefold_http_method",
        section=MECHANICS,
        kind=v.BOOL,
        flags=("--casefold-http-method",),
        action="store_true",
        default=False,
        meaning="Turn methods into upper case.",
    ),
    Row(
        name="header_map",
        section=MECHANICS,
        kind=v.choice("drop", "refuse", "dangerous"),
        flags=("--header-map",),
        metavar="POLICY",
        default="drop",
        meaning=(
            "What to do with header fields that have an underscore in their name, which the application"
            " cannot tell from those with a hyphen: drop the field, refuse the request, or pass it on"
            " (dangerous)."
        ),
    ),
    Row(
        name="forwarder_headers",
        section=MECHANICS,
        kind=v.COMMA_LIST,
        flags=("--forwarder-headers",),
        metavar="NAMES",
        default="SCRIPT_NAME,PATH_INFO",
        meaning="Fields with an underscore that trusted proxies may send nevertheless. * is all of them.",
    ),
    Row(
        name="http_parser",
        section=WORKERS,
        kind=v.choice("auto", "fast", "python"),
        flags=("--http-parser",),
        metavar="PARSER",
        default="auto",
        note="CYHORN_IMPL (auto, compiled, python) chooses the implementation instead",
        meaning=(
            "Gunicorn's choice of parser. In cyhorn the environment variable CYHORN_IMPL chooses for the"
            " whole process."
        ),
        differs="it has no use: the environment variable CYHORN_IMPL chooses for the whole server",
    ),
    # -- trusted peers
    Row(
        name="secure_scheme_headers",
        section=MECHANICS,
        kind=v.STRING_MAP,
        default={"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"},
        meaning=(
            "Header fields by which a trusted proxy says that the client used https, with the value that says"
            " so."
        ),
    ),
    Row(
        name="forwarded_allow_ips",
        section=MECHANICS,
        kind=v.ADDRESSES,
        flags=("--forwarded-allow-ips",),
        metavar="IPS",
        default="127.0.0.1,::1",
        env="FORWARDED_ALLOW_IPS",
        meaning=(
            "The proxies whose scheme and forwarder fields are believed: addresses and networks, or * for"
            " all. Unix sockets are always trusted."
        ),
    ),
    Row(
        name="proxy_protocol",
        section=MECHANICS,
        kind=v.PROXY_PROTOCOL,
        flags=("--proxy-protocol",),
        metavar="MODE",
        nargs="?",
        const="auto",
        default="off",
        meaning=(
            "Read HAProxy's PROXY protocol at the start of a connection: off, v1, v2 or auto, which the bare"
            " flag means too."
        ),
        differs="a malformed header of version 2 is answered 400, not 500",
    ),
    Row(
        name="proxy_allow_ips",
        section=MECHANICS,
        kind=v.ADDRESSES,
        flags=("--proxy-allow-from",),
        metavar="IPS",
        default="127.0.0.1,::1",
        meaning="The peers that may send a PROXY protocol header: addresses and networks, or * for all.",
    ),
    # -- TLS
    Row(
        name="keyfile",
        section=TLS,
        kind=v.PATH,
        flags=("--keyfile",),
        metavar="FILE",
        meaning="The private key. Not set means that it is in certfile.",
    ),
    Row(
        name="certfile",
        section=TLS,
        kind=v.PATH,
        flags=("--certfile",),
        metavar="FILE",
        meaning="The certificate and its chain. It turns TLS on.",
    ),
    Row(
        name="ssl_version",
        section=TLS,
        kind=v.ANY,
        flags=("--ssl-version",),
        metavar="VERSION",
        default=2,  # ssl.PROTOCOL_TLS, without importing ssl
        default_text="negotiated",
        pending="it is ignored, as in Gunicorn; the ssl_context hook can limit versions",
        meaning="Ignored, as in Gunicorn. The ssl_context hook can limit versions.",
    ),
    Row(
        name="cert_reqs",
        section=TLS,
        kind=v.between(0, 2),
        flags=("--cert-reqs",),
        metavar="INT",
        default=0,
        meaning=(
            "Whether clients need a certificate: 0 no, 1 optional, 2 required (ssl.CERT_NONE, CERT_OPTIONAL,"
            " CERT_REQUIRED)."
        ),
    ),
    Row(
        name="ca_certs",
        section=TLS,
        kind=v.PATH,
        flags=("--ca-certs",),
        metavar="FILE",
        meaning="The authorities that sign clients' certificates.",
    ),
    Row(
        name="suppress_ragged_eofs",
        section=TLS,
        kind=v.BOOL,
        flags=("--suppress-ragged-eofs",),
        no_flags=("--no-suppress-ragged-eofs",),
        action="store_true",
        default=True,
        meaning="Take the end of a TLS connection without a closing message as its end, not as an error.",
        differs="--no-suppress-ragged-eofs turns it off, which no flag of Gunicorn does",
    ),
    Row(
        name="do_handshake_on_connect",
        section=TLS,
        kind=v.BOOL,
        flags=("--do-handshake-on-connect",),
        action="store_true",
        default=False,
        note="handshakes block nobody, whenever they are",
        meaning=(
            "Gunicorn's choice of when to shake hands. cyhorn does so as bytes arrive, which blocks nobody,"
            " so that the value changes nothing."
        ),
        differs="it has no use: handshakes block nobody",
    ),
    Row(
        name="ciphers",
        section=TLS,
        kind=v.STRING,
        flags=("--ciphers",),
        metavar="LIST",
        meaning="The ciphers of TLS up to 1.2, in OpenSSL's format.",
    ),
)
