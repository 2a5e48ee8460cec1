"""What the stages share: settings, records, fingerprints, the image."""
