"""What a service is made of: the contract of a stage, and the loop that runs it."""
