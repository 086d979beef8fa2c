//! Asks the API server whose a token is, and by which keys others can tell.

use std::io;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::{GetParams, PostParams};
use kube::core::request::Request;
use kube::{Api, Client};
use serde_json::Value;

use super::writer::request_failed;
use crate::review::Review;

/// Reviews one token for one audience.
///
/// # Errors
/// When the API server does not answer, or does not let us ask; that says nothing about the token.
pub async fn review(client: &Client, token: &str, audience: &str) -> kube::Result<Review> {
    let spec = TokenReviewSpec { audiences: Some(vec![audience.to_owned()]), token: Some(token.to_owned()) };
    let asked = TokenReview { spec, ..TokenReview::default() };
    let reviews: Api<TokenReview> = Api::all(client.clone());
    let status = reviews.create(&PostParams::default(), &asked).await?.status.unwrap_or_default();
    let user = status.user.unwrap_or_default();
    Ok(Review {
        authenticated: status.authenticated.unwrap_or_default(),
        error: status.error.unwrap_or_default(),
        username: user.username.unwrap_or_default(),
        audiences: status.audiences.unwrap_or_default(),
        extra: user.extra.unwrap_or_default(),
    })
}

/// Who issues the cluster's tokens, and its public keys (JWKS).
///
/// # Errors
/// When the API server does not answer, or does not let us ask.
pub async fn issuer(client: &Client) -> io::Result<(String, String)> {
    let failed = |error| request_failed("the issuer of tokens", error);
    let ask = async |folder: &str, name: &str| {
        let request = Request::new(folder).get(name, &GetParams::default()).map_err(io::Error::other)?;
        client.request_text(request).await.map_err(failed)
    };
    let about: Value = serde_json::from_str(&ask("/.well-known", "openid-configuration").await?)?;
    let issuer = about["issuer"].as_str().unwrap_or_default().to_owned();
    Ok((issuer, ask("/openid/v1", "jwks").await?))
}
