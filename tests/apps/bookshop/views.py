"""Views that stream from a cursor, send files and read uploads, and say which connection to the database they have."""

import hashlib
import io
import os
import tempfile
import threading
from pathlib import Path

from django.db import connection as database
from django.db.backends.signals import connection_created
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from tests.apps.noting import note, wait_for_signal

from .models import Book

#: How many connections to the database this process has opened.
opened = [0]


def count_connection(**_):
    opened[0] += 1


connection_created.connect(count_connection)


def hello(request):
    return HttpResponse("Hello, World!\n", content_type="text/plain")


# --- the database --------------------------------------------------------------------------


def books(request, token):
    """All titles, read from an open cursor; in the middle they wait for the test's signal."""

    def titles():
        count = Book.objects.count()
        try:
            for number, book in enumerate(Book.objects.order_by("pk").iterator(chunk_size=20)):
                if number == count // 2:
                    note("half", token, connection=id(database.connection))
                    wait_for_signal(token)
                yield f"{book.title}\n"
        finally:
            note("ended", token, connection=id(database.connection))

    return StreamingHttpResponse(titles(), content_type="text/plain; charset=utf-8")


def add(request, title):
    """Write one title, and say how many there are."""
    Book.objects.create(title=title)
    return connection(request)


def connection(request):
    """Use the database, and say by which connection."""
    count = Book.objects.count()
    return JsonResponse(
        {
            "books": count,
            "pid": os.getpid(),
            "thread": threading.get_ident(),
            "connection": id(database.connection),
            "opened": opened[0],
        }
    )


# --- files ---------------------------------------------------------------------------------


class Noted(FileResponse):
    """A FileResponse that notes the call of its `close`."""

    def close(self):
        super().close()
        note("close", self["X-Token"], closed=self.of.closed)


def file(request, kind, token):
    """`?size` bytes of the file "content": from the file, from an offset in it, from memory, or a temporary file."""
    size = int(request.GET.get("size", 0))
    content = Path("content")
    if kind == "memory":
        source = io.BytesIO(content.read_bytes()[:size])
    elif kind == "temporary":
        source = tempfile.TemporaryFile(dir=".")
        source.write(content.read_bytes()[:size])
        source.seek(0)
    else:
        source = content.open("rb")
        if kind == "offset":
            source.seek(content.stat().st_size - size)
    response = Noted(source, as_attachment=kind == "file", filename="größe.bin", headers={"X-Token": token})
    response.of = source
    return response


# --- uploads -------------------------------------------------------------------------------


@csrf_exempt
def upload(request):
    """Size, digest and kind of the file that a form has sent."""
    sent = request.FILES["file"]
    digest = hashlib.sha256()
    for chunk in sent.chunks():
        digest.update(chunk)
    told = {"size": sent.size, "sha256": digest.hexdigest(), "kind": type(sent).__name__}
    return JsonResponse(told | {"fields": request.POST.dict()})


@csrf_exempt
def raw(request):
    """Size and digest of a body that is read in pieces."""
    digest, size = hashlib.sha256(), 0
    while piece := request.read(10_000):
        digest.update(piece)
        size += len(piece)
    return JsonResponse({"size": size, "sha256": digest.hexdigest()})
