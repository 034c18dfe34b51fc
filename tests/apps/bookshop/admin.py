from django.contrib import admin

from .models import Book, Scan

admin.site.register([Book, Scan])
