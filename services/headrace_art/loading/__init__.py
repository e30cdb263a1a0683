"""`headrace art load`: the nightly dump, from its server or from here, to ART."""
