"""Districts and schools: what the schools file asks for is brought about at ART."""
