//! What is wrong with one beyond the shape of its fields.

use super::GatewaySpec;
use crate::check::{Check, Wrong};

impl Check for GatewaySpec {
    fn check(&self) -> Result<(), Wrong> {
        Ok(())
    }
}
