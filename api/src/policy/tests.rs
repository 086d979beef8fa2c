//! Tests of the policy model.
