"""`python -m fhir_screen` is the command `fhir-screen`."""

from fhir_screen.cli import main

if __name__ == "__main__":
    main()
