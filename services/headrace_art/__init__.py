"""Students: from the nightly dump to ART, the registration system."""

from __future__ import annotations

from headrace.families import Family

family = Family(name="art")
