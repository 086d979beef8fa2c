//! What is wrong with one beyond the shape of its fields.

use super::DestinationRuleSpec;
use crate::check::{Check, Wrong};

impl Check for DestinationRuleSpec {
    fn check(&self) -> Result<(), Wrong> {
        Ok(())
    }
}
