"""What names and values of made-up people and places are drawn from."""

from __future__ import annotations

FIRST_NAMES = (
    "Noé", "Ana", "Liam", "Zoë", "Jürgen", "María", "Olivia", "José", "Chloé", "D'Andre", "Søren",
    "Mei", "Ayaan", "Inês", "Björn", "Priya", "Émile", "Núria", "Kwame", "Thao", "Ruth", "Ángel",
    "Gaël", "Lucía", "Mateo", "Amélie", "Håkon", "Yusuf", "Françoise", "Tomás", "Grace", "Paul",
)  # fmt: skip

LAST_NAMES = (
    "Quintanar", "O'Neil", "Muñoz", "García-López", "Nguyen", "Smith", "Björk", "Çelik", "D'Ángelo", "Müller", "Lee",
    "Hernández", "Østergaard", "Johnson", "Peña", "Kaya", "Yilmaz",
    "Castañeda", "Brown", "Núñez", "Fernandes", "Singh", "Zúñiga", "Ibáñez", "Aþelstan", "van der Berg", "Ramírez",
    "St. John", "Wong", "Íñigo", "Cohen", "Ødegaard",
)  # fmt: skip

PLACES = (
    "Riverbend", "Lakeland", "Otter Creek", "Hillside", "Piñon Valley", "Cañada", "San Andrés", "Twin Peaks", "Redwood",
    "Mariposa", "Agua Dulce", "El Niño Bay", "Live Oak", "Bluffs", "Sierra Vista", "Poppy Fields",
)  # fmt: skip

DISTRICT_KINDS = ("Unified", "Elementary", "Union High", "Joint Unified")
SCHOOL_KINDS = ("Elementary", "Middle", "High", "Academy", "Charter", "Continuation High")
LONG_NAME = "Center for Advanced Learning, Community Partnership and Applied Arts"
"""Brings any name over the sixty characters that ART keeps."""

STREETS = ("Main St", "Oak Ave", "Río Way", "5th St", "Mission Blvd", "Creek Rd", "Élan Ct", "Summit Dr")

COMMON_GRADES = (*(f"{grade:02}" for grade in range(1, 13)), "KN", "TK")
RARE_GRADES = ("IT", "PR", "PK", "TK", "KG", "KN", "UE", "US", "UG", "PS", "13", "AD", "", "1")
LANGUAGES = (
    "ENG",
    "SPA",
    "VIE",
    "TGL",
    "KOR",
    "ARM",
    "ARA",
    "HMN",
    "",
    "PER",
    "CHI",
    "eng",
    "RUS",
    "PAN",
    "UND",
    "JPN",
)
DISABILITIES = ("", "", "", "", "", "", "", "SLD", "SLI", "AUT", "OHI", "ID", "EMN", "HI", "TBI", "vi")
YES = ("Yes", "YES", "yes", "Yes ")
NO = ("No", "NO", "no", "")
