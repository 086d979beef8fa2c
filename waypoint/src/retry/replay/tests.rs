//! What is sent again, what never is, and what a mirror gets.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use proptest::prelude::*;

use super::{Attempt, Broken, Incomplete, Replay, Tee};

/// A body of these pieces; an empty one is trailers.
struct Pieces {
    left: VecDeque<&'static [u8]>,
    fails: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("gone")]
struct Gone;

impl Body for Pieces {
    type Data = Bytes;
    type Error = Gone;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Gone>>> {
        Poll::Ready(match self.left.pop_front() {
            Some(b"") => Some(Ok(Frame::trailers(trailers()))),
            Some(piece) => Some(Ok(Frame::data(Bytes::from_static(piece)))),
            None if self.fails => Some(Err(Gone)),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && !self.fails
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.iter().map(|piece| piece.len() as u64).sum())
    }
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("digest"), http::HeaderValue::from_static("x"))])
}

fn pieces(pieces: &[&'static [u8]]) -> Pieces {
    Pieces { left: pieces.iter().copied().collect(), fails: false }
}

/// Hides how long the body is.
struct Unsized(Pieces);

impl Body for Unsized {
    type Data = Bytes;
    type Error = Gone;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Gone>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }
}

fn next<B: Body<Data = Bytes, Error = Gone> + Unpin>(
    attempt: &mut Attempt<B>,
) -> Option<Result<Frame<Bytes>, Broken<Gone>>> {
    std::future::poll_fn(|context| Pin::new(&mut *attempt).poll_frame(context))
        .now_or_never()
        .expect("these bodies never wait")
}

/// Everything an attempt sends from here on, and its trailers.
fn rest<B: Body<Data = Bytes, Error = Gone> + Unpin>(
    attempt: &mut Attempt<B>,
) -> (Vec<u8>, Option<HeaderMap>) {
    let (mut bytes, mut trailers) = (Vec::new(), None);
    while let Some(frame) = next(attempt) {
        match frame.expect("sound").into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    (bytes, trailers)
}

fn whole(tee: Tee) -> Result<Vec<u8>, Incomplete> {
    tee.whole().now_or_never().expect("settled").map(|whole| whole.bytes.to_vec())
}

#[test]
fn a_later_attempt_sends_all_from_the_beginning_and_cuts_the_earlier_off() {
    let replay = Replay::new(pieces(&[b"ab", b"cd", b"ef", b""]), 6);
    let mut first = replay.attempt().unwrap();
    assert_eq!(next(&mut first).unwrap().unwrap().into_data().unwrap(), "ab");
    assert_eq!(next(&mut first).unwrap().unwrap().into_data().unwrap(), "cd");
    let mut second = replay.attempt().unwrap();
    assert_eq!(second.size_hint().exact(), Some(6));
    assert!(matches!(next(&mut first), Some(Err(Broken::Superseded))));
    assert!(!first.is_end_stream(), "cut off is not the end");
    assert_eq!(rest(&mut second), (b"abcdef".to_vec(), Some(trailers())));
    assert_eq!(rest(&mut replay.attempt().unwrap()), (b"abcdef".to_vec(), Some(trailers())));
}

#[test]
fn what_passes_the_bound_streams_on_and_is_never_sent_again() {
    for bound in [0, 3] {
        let replay = Replay::new(Unsized(pieces(&[b"ab", b"cd"])), bound);
        let mut first = replay.attempt().unwrap();
        assert_eq!(rest(&mut first).0, b"abcd");
        assert!(!replay.at_hand() && replay.attempt().is_none());
    }
}

#[test]
fn a_large_body_of_which_nothing_was_taken_is_still_at_hand() {
    let replay = Replay::new(pieces(&[b"abcd"]), 3);
    let _not_connected = replay.attempt().unwrap();
    let mut second = replay.attempt().unwrap();
    assert_eq!(rest(&mut second).0, b"abcd");
    assert!(replay.attempt().is_none());
}

#[test]
fn a_body_that_breaks_off_is_not_sent_again() {
    let replay = Replay::new(Pieces { left: [&b"ab"[..]].into(), fails: true }, 10);
    let tee = replay.tee();
    let mut first = replay.attempt().unwrap();
    assert!(next(&mut first).unwrap().is_ok());
    assert!(matches!(next(&mut first), Some(Err(Broken::Client(Gone)))));
    assert!(replay.attempt().is_none());
    assert_eq!(whole(tee), Err(Incomplete::Unfinished));
}

#[test]
fn without_a_body_every_attempt_ends_at_once() {
    let replay = Replay::new(pieces(&[]), 0);
    for _ in 0..3 {
        let mut attempt = replay.attempt().unwrap();
        assert!(attempt.is_end_stream());
        assert_eq!(rest(&mut attempt), (vec![], None));
    }
    assert_eq!(whole(replay.tee()), Ok(vec![]));
}

#[test]
fn what_is_released_is_forgotten_unless_a_mirror_waits_for_it() {
    let replay = Replay::new(pieces(&[b"ab", b"cd"]), 10);
    let mut attempt = replay.attempt().unwrap();
    assert!(next(&mut attempt).is_some());
    replay.release();
    assert!(!replay.at_hand());
    assert_eq!(rest(&mut attempt).0, b"cd");

    let replay = Replay::new(pieces(&[b"ab", b"cd"]), 10);
    let tee = replay.tee();
    let mut attempt = replay.attempt().unwrap();
    assert!(next(&mut attempt).is_some());
    replay.release();
    assert!(next(&mut attempt).is_some());
    assert!(!replay.at_hand(), "the mirror has its own now");
    assert_eq!(whole(tee), Ok(b"abcd".to_vec()));
}

#[test]
fn a_mirror_of_a_large_body_is_told_so_as_early_as_can_be() {
    let known = Replay::new(pieces(&[b"abcd"]), 3);
    assert_eq!(whole(known.tee()), Err(Incomplete::TooLarge));
    let unknown = Replay::new(Unsized(pieces(&[b"ab", b"cd", b"ef"])), 3);
    let tee = unknown.tee();
    let mut attempt = unknown.attempt().unwrap();
    assert!(next(&mut attempt).is_some() && next(&mut attempt).is_some());
    assert_eq!(whole(tee), Err(Incomplete::TooLarge));
}

#[test]
fn the_last_piece_completes_all_mirrors_although_nobody_asks_for_the_end() {
    let replay = Replay::new(pieces(&[b"ab"]), 3);
    let tees = [replay.tee(), replay.tee()];
    let mut attempt = replay.attempt().unwrap();
    assert!(next(&mut attempt).is_some());
    assert!(attempt.is_end_stream());
    assert_eq!(tees.map(whole), [Ok(b"ab".to_vec()), Ok(b"ab".to_vec())]);
}

proptest! {
    /// Wherever attempts break off, each one that is given sends exactly the client's body; one is given exactly if
    /// nothing was taken or nothing taken exceeds the bound.
    #[test]
    fn every_attempt_sends_the_whole_body(
        sizes in prop::collection::vec(1..40_usize, 0..12),
        bound in 0..200_usize,
        steps in prop::collection::vec(0..14_usize, 0..5),
        sized: bool,
    ) {
        static BYTES: [u8; 512] = {
            let mut bytes = [0; 512];
            let mut index = 0;
            while index < 512 { bytes[index] = (index % 251) as u8; index += 1; }
            bytes
        };
        let mut at = 0;
        let list: Vec<&'static [u8]> = sizes.iter().map(|size| { at += size; &BYTES[at - size..at] }).collect();
        let body = pieces(&list);
        if sized { check(body, &list, at, bound, &steps)?; } else { check(Unsized(body), &list, at, bound, &steps)?; }
    }
}

fn check<B: Body<Data = Bytes, Error = Gone> + Unpin>(
    body: B,
    list: &[&'static [u8]],
    total: usize,
    bound: usize,
    steps: &[usize],
) -> Result<(), TestCaseError> {
    let promised = body.size_hint().lower() as usize;
    // Nothing is ever taken from a body that says at once that it is over.
    let over = body.is_end_stream();
    let replay = Replay::new(body, bound);
    let all = list.concat();
    let mut begun = false;
    let mut gone = bound == 0 || promised > bound;
    let mut passed = 0;
    for count in steps {
        let Some(mut attempt) = replay.attempt() else {
            prop_assert!(begun && gone);
            return Ok(());
        };
        prop_assert!(!begun || !gone);
        let mut sent = Vec::new();
        for _ in 0..*count {
            let Some(frame) = next(&mut attempt) else { break };
            sent.extend_from_slice(&frame.expect("sound").into_data().expect("no trailers here"));
        }
        prop_assert_eq!(&sent[..], &all[..sent.len()]);
        passed = passed.max(sent.len());
        begun |= *count > 0 && !over;
        gone |= passed > bound;
        if *count >= 14 - 1 {
            prop_assert_eq!(sent.len(), total);
        }
    }
    Ok(())
}

#[test]
fn the_errors_fit_a_client() {
    fn takes<E: Into<Box<dyn std::error::Error + Send + Sync>>>() {}
    takes::<Broken<Gone>>();
    takes::<Broken<Infallible>>();
}
