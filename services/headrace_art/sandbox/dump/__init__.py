"""Dumps of made-up students and schools, as the real ones come. Source: reference art 2.1 to 2.3, 5.8."""
