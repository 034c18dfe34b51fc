"""A notebook in Flask: session, streaming, upload and JSON."""

import hashlib
import time

from flask import (
    Flask,
    flash,
    jsonify,
    redirect,
    render_template,
    request,
    session,
    stream_with_context,
    url_for,
)

app = Flask(__name__)
app.secret_key = "only for this example"


@app.get("/")
def index():
    return render_template("index.html", notes=session.get("notes", []))


@app.post("/notes")
def add_note():
    note = request.form["note"].strip()
    if note:
        session["notes"] = [*session.get("notes", []), note][-20:]
        flash("Noted.")
    return redirect(url_for("index"))


@app.get("/count")
def count():
    """A line every tenth of a second, each sent when it is made."""
    lines = min(request.args.get("lines", 10, type=int), 1000)
    pause = min(request.args.get("pause", 0.1, type=float), 1.0)

    @stream_with_context
    def counting():
        for number in range(lines):
            time.sleep(pause if number else 0)
            yield f"{number} for {request.remote_addr or 'a unix socket'}\n"

    return app.response_class(counting(), mimetype="text/plain")


@app.post("/upload")
def upload():
    """The size and digest of the file that was sent."""
    sent = request.files["file"]
    digest, size = hashlib.sha256(), 0
    while chunk := sent.stream.read(1 << 16):
        digest.update(chunk)
        size += len(chunk)
    return jsonify(name=sent.filename, size=size, sha256=digest.hexdigest())


@app.route("/echo", methods=["GET", "POST"])
def echo():
    """What of the request arrived."""
    return jsonify(
        method=request.method,
        path=request.path,
        args=request.args.to_dict(flat=False),
        json=request.get_json(silent=True),
        scheme=request.scheme,
        remote=request.remote_addr,
        server=request.environ.get("SERVER_SOFTWARE"),
    )
