//! Tests of the service model.
