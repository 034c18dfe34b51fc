"""Between HTTP and the application: environ template, input, file wrapper, loading."""
