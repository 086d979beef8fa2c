//! A switch of protocols: once both sides agree, bytes pass both ways until one ends or a policy forbids it.

use std::time::Duration;

use ambit_process::spawn::spawn_local;
use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::body::Answer;
use crate::judge::Verdicts;
use crate::message;
use crate::record::{Ended, Held, Record};
use crate::refuse::Refusal;

/// How long a client may take to switch after it was told to.
const SWITCH: Duration = Duration::from_secs(10);

/// Passes a 101 on and joins both sides.
pub fn pass(
    mut answer: Response<Incoming>,
    upgrade: Option<OnUpgrade>,
    (judged, held): (Verdicts, Held),
    mut record: Record,
) -> Response<Answer> {
    let protocol = answer.headers().get(UPGRADE).cloned();
    let theirs = hyper::upgrade::on(&mut answer);
    let (Some(ours), Some(protocol)) = (upgrade, protocol) else {
        return Refusal::Reset("it switched protocols unasked".to_owned()).instead(record);
    };
    let (mut parts, _body) = answer.into_parts();
    message::strip(&mut parts.headers);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(UPGRADE, protocol);
    let drain = record.arrival.mesh.drain.clone();
    spawn_local("upgrade", async move {
        let _held = held;
        let switched = tokio::time::timeout(SWITCH, async { tokio::try_join!(ours, theirs) });
        let Ok(Ok((ours, theirs))) = switched.await else {
            record.close(Ended::Reset);
            return;
        };
        let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
        let ended = tokio::select! {
            carried = tokio::io::copy_bidirectional(&mut ours, &mut theirs) => match carried {
                Ok((up, down)) => {
                    record.received.begin().reach(up, 0);
                    record.sent = down;
                    Ended::Whole
                }
                Err(_) => Ended::Reset,
            },
            _reason = judged.forbidden() => Ended::Forbidden,
            () = drain.forced() => Ended::Reset,
        };
        record.close(ended);
    });
    Response::from_parts(parts, Answer::local(Bytes::new(), None))
}
