//! What is wrong with one beyond the shape of its fields.

use super::VirtualServiceSpec;
use crate::check::{Check, Wrong};

impl Check for VirtualServiceSpec {
    fn check(&self) -> Result<(), Wrong> {
        Ok(())
    }
}
