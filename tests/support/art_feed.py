"""What the dump's columns and grades are called at ART, written down once more, apart from the product.

Source: reference art 2.3, 2.5.
"""

from __future__ import annotations

FLAGS = {
    "HispanicOrLatinoEthnicity": "hispanicOrLatino", "AmericanIndianOrAlaskaNative": "americanIndianOrAlaskaNative",
    "Asian": "asian", "BlackOrAfricanAmerican": "blackOrAfricanAmerican", "White": "white",
    "NativeHawaiianOrOtherPacificIslander": "nativeHawaiianOrPacificIsland",
    "DemographicRaceTwoOrMoreRaces": "twoOrMoreRaces", "IDEAIndicator": "iDEAIndicator", "LEPStatus": "lepStatus",
    "Section504Status": "section504Status", "EconomicDisadvantageStatus": "disadvantageStatus",
    "MigrantStatus": "migrantStatus",
}  # fmt: skip
GRADES = {"KN": "KG", "UE": "UG", "US": "UG"} | {
    grade: grade for grade in ["IT", "PR", "PK", "TK", "KG", *(f"{n:02}" for n in range(1, 14)), "PS", "UG"]
}
