"""What job kinds share: faces, models, recognizers, attacks, rates, pictures, provenance."""
