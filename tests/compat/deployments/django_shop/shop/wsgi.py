import logging

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
logging.getLogger(__name__).info("The application is loaded")
