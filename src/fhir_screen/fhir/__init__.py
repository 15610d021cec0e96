"""The edge to FHIR: files and servers in, transactions out."""
