import os

from django.contrib import admin
from django.urls import path
from django.views.static import serve

from . import views

urlpatterns = [
    path("", views.hello),
    path("admin/", admin.site.urls),
    path("books/<str:token>", views.books),
    path("add/<str:title>", views.add),
    path("connection", views.connection),
    path("file/<str:kind>/<str:token>", views.file),
    path("media/<path:path>", serve, {"document_root": os.path.abspath(".")}),
    path("upload", views.upload),
    path("raw", views.raw),
]
