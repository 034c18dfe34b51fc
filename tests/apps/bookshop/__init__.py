"""A Django project for the acceptance suite: an admin with uploads, streams, files and counted connections."""
