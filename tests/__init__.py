"""A regular package: a namespace package would lose to the `tests` that some distribution leaves in site-packages."""
