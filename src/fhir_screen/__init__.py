"""fhir_screen: screens the patients of a FHIR server for clinical trials, in three-valued logic, with evidence."""
