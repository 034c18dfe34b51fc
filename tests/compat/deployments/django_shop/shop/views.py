"""What a shop does: pages, forms, uploads, downloads, and mistakes."""

import io

from django.conf import settings
from django.http import FileResponse, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

PRODUCTS = {"tea": 4, "Käse": 9, "bread": 3}


@require_GET
def catalogue(request):
    context = {"products": PRODUCTS, "currency": settings.CURRENCY, "secure": request.is_secure()}
    return render(request, "catalogue.html", context)


@csrf_exempt
def cart(request):
    if request.method == "POST":
        items = request.session.get("cart", [])
        request.session["cart"] = [*items, request.POST["product"]]
        return HttpResponseRedirect("/cart/")
    return HttpResponse(", ".join(request.session.get("cart", [])), content_type="text/plain; charset=utf-8")


@require_GET
def prices(request):
    lines = (f"{name},{price}\n" for name, price in PRODUCTS.items())
    return StreamingHttpResponse(lines, content_type="text/csv")


@require_GET
def leaflet(request):
    return FileResponse(io.BytesIO(b"%PDF" + bytes(range(256)) * 400), filename="leaflet.pdf")


@csrf_exempt
@require_POST
def complaint(request):
    file = request.FILES["file"]
    return HttpResponse(f"{file.name}: {file.size}, {file.read(16)!r}", status=201)


def broken(request):
    return HttpResponse(str(PRODUCTS["coffee"]))
