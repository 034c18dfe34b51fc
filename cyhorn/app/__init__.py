"""The embedding API: `base` for custom applications, `wsgiapp` for the command line."""
