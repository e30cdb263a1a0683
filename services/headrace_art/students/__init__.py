"""Students: new and changed ones are brought to ART, and followed until it has saved them."""
