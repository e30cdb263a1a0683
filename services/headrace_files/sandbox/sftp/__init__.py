"""An sFTP server to rehearse with: OpenSSH's own, and one that can be told to misbehave."""
