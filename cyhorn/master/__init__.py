"""What the arbiter is made of: its view of the workers, a reload, its words with systemd."""
