"""How events become bytes and back."""
