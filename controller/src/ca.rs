//! The certificate authority: [`tokens`] says who calls, [`grant`] what it may have, [`authority`] signs it.

pub mod authority;
mod claims;
pub mod grant;
pub mod keep;
pub mod pods;
pub mod reviews;
pub mod service;
pub mod signer;
pub mod tokens;
