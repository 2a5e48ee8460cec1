"""The KFP components: each reads artifacts, calls the library, writes artifacts."""
