from django.urls import path

from shop import views

urlpatterns = [
    path("", views.catalogue),
    path("cart/", views.cart),
    path("prices.csv", views.prices),
    path("leaflet.pdf", views.leaflet),
    path("complaint/", views.complaint),
    path("broken/", views.broken),
]
