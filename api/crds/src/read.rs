//! Documents to objects.
