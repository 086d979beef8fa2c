//! What is wrong with one beyond the shape of its fields.

use super::GrpcRouteSpec;
use crate::check::{Check, Wrong};

impl Check for GrpcRouteSpec {
    fn check(&self) -> Result<(), Wrong> {
        Ok(())
    }
}
