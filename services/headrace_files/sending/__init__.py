"""What all senders of files share: snapshots, the log of what was sent, the engine that turns files into frames."""
