//! The types of the App Container specification: names, identifiers, manifests. No I/O.
