"""`headrace art report`: what became of every line of a load."""
