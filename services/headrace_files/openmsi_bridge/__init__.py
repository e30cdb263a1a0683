"""Brings files that OpenMSIStream sends into Headrace."""
