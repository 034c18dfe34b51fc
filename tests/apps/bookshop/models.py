from django.db import models


class Book(models.Model):
    """A row of the catalogue."""

    title = models.CharField(max_length=80)


class Scan(models.Model):
    """A file that somebody uploads in the admin."""

    title = models.CharField(max_length=80)
    file = models.FileField(upload_to="scans")

    def __str__(self):
        return f"{self.title} of {self.file.size} bytes"
