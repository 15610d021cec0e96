"""A real HAPI FHIR server for the tests."""
