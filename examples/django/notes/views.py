"""A page with a form, an upload that is hashed, and a download made as it is sent."""

import hashlib
import random

from django.http import HttpResponseBadRequest, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from .forms import NoteForm, UploadForm
from .models import Note


def index(request):
    form = NoteForm(request.POST or None)
    if form.is_valid():
        form.save()
        return redirect("index")
    shown = {"form": form, "upload": UploadForm(), "notes": Note.objects.all()[:20]}
    return render(request, "notes/index.html", shown)


@require_POST
def upload(request):
    """The size and digest of the file that was sent."""
    form = UploadForm(request.POST, request.FILES)
    if not form.is_valid():
        return HttpResponseBadRequest(form.errors.as_json(), content_type="application/json")
    sent = form.cleaned_data["file"]
    digest = hashlib.sha256()
    for chunk in sent.chunks():
        digest.update(chunk)
    return JsonResponse({"name": sent.name, "size": sent.size, "sha256": digest.hexdigest()})


def download(request, mebibytes):
    """So many MiB, always the same bytes for the same number."""
    source = random.Random(mebibytes)
    blocks = (source.randbytes(1 << 16) for _ in range(16 * mebibytes))
    response = StreamingHttpResponse(blocks, content_type="application/octet-stream")
    response["Content-Disposition"] = f'attachment; filename="{mebibytes}.bin"'
    return response
