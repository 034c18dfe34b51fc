"""The bookshop as a WSGI application; it serves the admin's style sheets itself."""

import os

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.apps.bookshop.settings"
app = StaticFilesHandler(get_wsgi_application())
