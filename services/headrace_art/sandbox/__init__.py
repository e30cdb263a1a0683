"""A stand-in for ART and its token provider, with the awkward parts. Source: reference art sections 3 and 5."""
