//! Who calls, by the word of the API server, which knows whether a token's pod still exists.
//!
//! A token is looked at before anybody is asked, so that nonsense costs the API server nothing. An answer is kept for a short
//! time, and while the API server is away until the token itself ends: what it vouched for once does not become doubtful
//! because it cannot be asked. Of a token that it was never asked about, the keys that it gave out tell then; whether the
//! token's pod is alive is looked up elsewhere in any case.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ambit_crds::review::Review;
use aws_lc_rs::digest::{SHA256, digest};
use jsonwebtoken::jwk::JwkSet;
use tokio::sync::{Semaphore, watch};

use super::claims::unverified;
use super::tokens::{Caller, Expected, TokenError, bearer, verify};

/// A good answer is not asked for again for so long.
const FRESH: Duration = Duration::from_secs(60);

/// A refusal is not.
const REFUSED: Duration = Duration::from_secs(5);

/// One question, and everything before it.
const WITHIN: Duration = Duration::from_secs(5);

/// After an unanswered question the next one waits for so long, and what is known counts meanwhile.
const AWAY: Duration = Duration::from_secs(2);

/// Questions at one time.
const AT_ONCE: usize = 32;

/// Tokens of which an answer is kept: more than there are proxies.
const KEPT: usize = 16_384;

/// What the API server adds to a token's user.
const EXTRA: &str = "authentication.kubernetes.io/";

/// The answer of somebody who knows whose a token is, or why nobody does now.
pub type Answer = Pin<Box<dyn Future<Output = Result<Review, String>> + Send>>;

/// Somebody who knows whose a token is.
pub trait Reviewer: Send + Sync {
    /// Whose it is.
    fn review(&self, token: &str) -> Answer;
}

/// Verifies tokens by asking.
pub struct Reviews {
    reviewer: Box<dyn Reviewer>,
    audience: String,
    issuer: watch::Receiver<Option<Arc<Issuer>>>,
    asking: Semaphore,
    known: Mutex<HashMap<Digest, Arc<Slot>>>,
    /// When a question was last not answered.
    missed: Mutex<Option<SystemTime>>,
}

/// Who issues tokens, and its keys.
#[derive(Debug)]
pub struct Issuer {
    /// `iss`.
    pub name: String,
    /// Public keys.
    pub keys: JwkSet,
}

/// Of a token: it is kept nowhere itself.
type Digest = [u8; 32];

/// What is known of one token. Whoever asks holds the lock, so that a token is asked about once however many come with it.
#[derive(Default)]
struct Slot {
    held: tokio::sync::Mutex<Option<Held>>,
    /// When it may be forgotten.
    until: Mutex<Option<SystemTime>>,
}

/// One answer.
#[derive(Clone)]
struct Held {
    answer: Result<Caller, TokenError>,
    asked: SystemTime,
}

impl fmt::Debug for Reviews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reviews(for {})", self.audience)
    }
}

impl Reviews {
    /// Asks `reviewer` about tokens for `audience`; while it is away, the issuer's keys tell.
    pub fn new(
        reviewer: Box<dyn Reviewer>,
        audience: String,
        issuer: watch::Receiver<Option<Arc<Issuer>>>,
    ) -> Self {
        Self {
            reviewer,
            audience,
            issuer,
            asking: Semaphore::new(AT_ONCE),
            known: Mutex::default(),
            missed: Mutex::default(),
        }
    }

    /// Verifies the value of an `authorization` header.
    ///
    /// # Errors
    /// [`TokenError::Unavailable`] when nobody can say now; every other error is a refusal.
    pub async fn verify(&self, header: Option<&str>, now: SystemTime) -> Result<Caller, TokenError> {
        let token = bearer(header)?;
        let claimed = unverified(token, &self.audience, now)?;
        let slot = self.slot(token, now);
        let decided = tokio::time::timeout(WITHIN, self.decide(token, &claimed, &slot, now)).await;
        decided.unwrap_or_else(|_| Err(unavailable("no answer in time")))
    }

    async fn decide(
        &self,
        token: &str,
        claimed: &Caller,
        slot: &Slot,
        now: SystemTime,
    ) -> Result<Caller, TokenError> {
        let mut held = slot.held.lock().await;
        if let Some(known) = held.as_ref().filter(|known| known.counts(now)) {
            return known.answer.clone();
        }
        let last = held.as_ref().and_then(|known| known.answer.clone().ok());
        let asked = match self.is_away(now) {
            true => Err(unavailable("it did not answer a moment ago")),
            false => self.ask(token, claimed, now).await,
        };
        match (asked, last) {
            // `unverified` has looked at the token's end.
            (Err(TokenError::Unavailable(_)), Some(last)) => Ok(last),
            (Err(why @ TokenError::Unavailable(_)), None) => self.by_keys(token, now).unwrap_or(Err(why)),
            (answer, _) => {
                let forget = answer.as_ref().map_or(now + REFUSED, |caller| caller.expires);
                *slot.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(forget);
                *held = Some(Held { answer: answer.clone(), asked: now });
                answer
            }
        }
    }

    /// By the issuer's keys, if they are known.
    fn by_keys(&self, token: &str, now: SystemTime) -> Option<Result<Caller, TokenError>> {
        let issuer = self.issuer.borrow().clone()?;
        let expected = Expected { issuer: issuer.name.clone(), audience: self.audience.clone() };
        Some(verify(token, &issuer.keys, &expected, now))
    }

    async fn ask(&self, token: &str, claimed: &Caller, now: SystemTime) -> Result<Caller, TokenError> {
        let _place = self.asking.acquire().await.map_err(|error| unavailable(&error.to_string()))?;
        match tokio::time::timeout(AWAY, self.reviewer.review(token)).await {
            Ok(Ok(review)) => judge(review, &self.audience, claimed),
            Ok(Err(why)) => Err(self.missed(&why, now)),
            Err(_) => Err(self.missed("no answer in time", now)),
        }
    }

    fn missed(&self, why: &str, now: SystemTime) -> TokenError {
        *self.missed.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        unavailable(why)
    }

    fn is_away(&self, now: SystemTime) -> bool {
        let missed = *self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        missed.is_some_and(|at| now.duration_since(at).is_ok_and(|since| since < AWAY))
    }

    /// Where the answer about a token is kept; nowhere, if too many are.
    fn slot(&self, token: &str, now: SystemTime) -> Arc<Slot> {
        let mut of = Digest::default();
        of.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = known.get(&of) {
            return slot.clone();
        }
        if known.len() >= KEPT {
            known.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.is_kept(now));
        }
        let slot = Arc::new(Slot::default());
        if known.len() < KEPT {
            known.insert(of, slot.clone());
        }
        slot
    }
}

impl Slot {
    fn is_kept(&self, now: SystemTime) -> bool {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now < until)
    }
}

impl Held {
    /// Whether nobody need be asked. A clock that went back makes an answer old.
    fn counts(&self, now: SystemTime) -> bool {
        let holds = if self.answer.is_ok() { FRESH } else { REFUSED };
        now.duration_since(self.asked).is_ok_and(|age| age < holds)
    }
}

/// What an answer means for the caller that the token claims to be.
fn judge(review: Review, audience: &str, claimed: &Caller) -> Result<Caller, TokenError> {
    if !review.authenticated {
        return Err(TokenError::NotGenuine(review.error));
    }
    // An API server that does not know audiences confirms none.
    if !review.audiences.iter().any(|one| one == audience) {
        return Err(TokenError::Audience(review.audiences));
    }
    let account = format!("system:serviceaccount:{}:{}", claimed.account.namespace, claimed.account.name);
    let told = |name: &str| review.extra(&format!("{EXTRA}{name}"));
    let is_pod = told("pod-name") == Some(&*claimed.pod.name) && told("pod-uid") == Some(&*claimed.pod.uid);
    if review.username != account || !is_pod {
        let text = format!(
            "the API server says that it is of {}, and of another pod than it names",
            review.username
        );
        return Err(TokenError::Malformed(text));
    }
    let node = told("node-name").map(str::to_owned).or_else(|| claimed.node.clone());
    Ok(Caller { node, ..claimed.clone() })
}

fn unavailable(why: &str) -> TokenError {
    TokenError::Unavailable(why.to_owned())
}

#[cfg(test)]
mod tests;
